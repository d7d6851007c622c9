"""A training written out step by step, for the notebook's kernel: what panels and explorers have to show."""

CODE = """
def _by_hand(train_data, test_data, run, config, steps, batch_size, peak, warmup):
    import math
    import torch
    import vitlab

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = vitlab.ViT(vitlab.ViTConfig(**config)).to(run.device)
    named = dict(model.named_parameters())
    kept = [name for name, p in named.items() if p.ndim == 1 or name in ("cls_token", "pos_embed")]
    groups = [{"params": [p for name, p in named.items() if name not in kept], "weight_decay": 0.05}]
    groups.append({"params": [named[name] for name in kept], "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for step, (images, labels) in enumerate(vitlab.data.batches(train_data, batch_size, 0, False, steps)):
        done = (step - warmup) / (steps - warmup)
        rate = peak * (step + 1) / warmup if step < warmup else peak * (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        with run.autocast():
            loss = torch.nn.functional.cross_entropy(model(images.to(run.device)), labels.to(run.device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad(), run.autocast():
        logits = model.eval()(test_data.images.to(run.device) / 127.5 - 1)
    labels = test_data.labels.to(run.device)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    return float((logits.argmax(1) == labels).float().mean()), float(loss), losses
"""
