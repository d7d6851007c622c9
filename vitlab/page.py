"""What a notebook's page is told once, by `vitlab.start`: names for screen readers, keys, figures on a card.

Made for JupyterLab 4 and Notebook 7. Elsewhere nothing matches, and nothing happens. The page asks no host.
"""

import sys

# Classes of the boxes that the page looks for; of those that are live, the picture changes by itself, too.
QUESTION, EXPLORER, LIVE = "vitlab-question", "vitlab-explorer", "vitlab-live"

SMALLEST = 0.7  # of its width that a figure keeps: of letters of 9 points, 12.5 pixels, nearly nine

WAITING = "Waiting for the running cell: the controls act at the latest when it has ended."

STYLE = """
.vitlab-explorer img { cursor: default; -webkit-user-drag: none; user-select: none; }
.vitlab-waiting { margin: 4px 0; padding: 2px 8px; border-left: 4px solid #D55E00; }

/* In a dark theme a figure sits on a quiet card: the same picture and colours, a little darker. */
[data-jp-theme-light="false"] :is(.jp-RenderedImage img, img.widget-image) {
  margin: 10px; border-radius: 2px; background: white; box-shadow: 0 0 0 8px white; filter: brightness(0.82);
}
[data-jp-theme-light="false"] .jp-RenderedImage img { max-width: calc(100% - 20px); }
[data-jp-theme-light="false"] img.widget-image { max-width: calc(100% - 20px) !important; }

/* In a narrow window a figure shrinks; one that would become too small to read is scrolled. */
.jp-RenderedImage { overflow-x: auto; }

/* A table is scrolled sooner than its numbers wrap; so is a long formula. */
.jp-RenderedMarkdown table { display: block; width: max-content; max-width: 100%; overflow-x: auto; }
.jp-RenderedMarkdown :is(td, th) { white-space: nowrap; }
.jp-RenderedMarkdown :is(td, th).vitlab-prose { white-space: normal; min-width: 12em; }
.jp-RenderedMarkdown mjx-container { max-width: 100%; overflow-x: auto; overflow-y: hidden; }

/* A question's lines stand as close as those of the page's text. */
.vitlab-question .widget-html-content { line-height: 1.5; }

/* The one line that a folded cell shows is shortened, or the whole notebook would be scrolled sideways. */
.jp-Placeholder-content, .jp-Placeholder-contentContainer { min-width: 0; }
.jp-Placeholder-contentContainer, .jp-PlaceholderText { overflow: hidden; text-overflow: ellipsis; }

/* A long line of text, such as a verdict, breaks between words. */
.jp-OutputArea-output.jp-RenderedText pre { word-break: normal; overflow-wrap: anywhere; }
.jp-OutputArea-output pre.vitlab-columns { white-space: pre; overflow-x: auto; }
"""

# Core widgets give a group of options, a slider and a picture no name that a screen reader finds, and
# JupyterLab takes the arrow keys from a list. A cell that runs holds up all controls, which Python cannot
# say: the page sees the star beside the cell. JupyterLab from 4.4 on, with ipykernel 7, lets controls act
# beside a cell (kernel subshells), late where the cell keeps Python busy; so the page speaks of waiting only
# until the answer is there. What a training draws by itself answers no button: a button that changes does.
SCRIPT = r"""
(() => {
  if (window.vitlabPage) return;
  window.vitlabPage = true;
  document.head.append(document.getElementById("vitlab-style"));
  let groups = 0, asked = false;

  const text = node => node ? node.textContent.trim() : "";
  const put = (node, name, value) => node.getAttribute(name) === value || node.setAttribute(name, value);
  const ours = selector => ["vitlab-question", "vitlab-explorer"].flatMap(
    name => [...document.querySelectorAll(`.${name} :is(${selector})`)]);

  function prepare() {
    asked = false;
    for (const group of ours(".widget-radio-box")) {
      put(group, "role", "radiogroup");
      const question = group.closest(".vitlab-question")?.querySelector(".widget-html-content");
      put(group, "aria-label", text(question ?? group.parentElement.querySelector(".widget-label")));
      group.id ||= `vitlab-options-${++groups}`;
      for (const option of group.querySelectorAll("input")) {
        option.name = group.id;  // one group: arrows go through it
        put(option, "data-lm-suppress-shortcuts", "true");
      }
    }
    for (const group of ours(".widget-toggle-buttons > div")) {
      put(group, "role", "group");
      put(group, "aria-label", text(group.parentElement.querySelector(".widget-label")));
    }
    for (const handle of ours(".noUi-handle")) {
      put(handle, "aria-label", text(handle.closest(".widget-inline-hbox")?.querySelector(".widget-label")));
    }
    for (const list of ours("select")) put(list, "data-lm-suppress-shortcuts", "true");
    for (const image of ours("img.widget-image")) put(image, "alt", "The text below says what is here.");
    for (const figure of document.querySelectorAll(".jp-RenderedImage img")) {
      if (figure.naturalWidth) figure.style.minWidth = `${SMALLEST * figure.naturalWidth}px`;
      else figure.addEventListener("load", soon, {once: true});
    }
    for (const cell of document.querySelectorAll(".jp-RenderedMarkdown :is(td, th)")) {
      if (text(cell).length > 32) cell.classList.add("vitlab-prose");
    }
    for (const printed of document.querySelectorAll(".jp-OutputArea-output pre")) {
      const lines = printed.textContent.split("\n");
      const columns = lines.filter(line => /\S {2,}\S/.test(line)).length > 1;
      const sentences = lines.some(line => line.length > 130);  // such as a verdict: wrapped, not scrolled
      printed.classList.toggle("vitlab-columns", columns && !sentences);
    }
  }
  const soon = () => { if (!asked) { asked = true; setTimeout(prepare, 50); } };
  new MutationObserver(soon).observe(document.body, {childList: true, subtree: true});
  prepare();

  const running = explorer => {
    const prompts = explorer.closest(".jp-Notebook")?.querySelectorAll(".jp-InputPrompt") ?? [];
    return [...prompts].some(prompt => prompt.textContent.includes("*"));
  };
  function moved(event) {
    const explorer = event.target.closest?.(".vitlab-explorer");
    const control = event.target.closest?.(".noUi-target, select, input, button, .vitlab-clicked img");
    const key = event.type !== "keydown" || /^(Arrow|Home|End|Page|Enter| )/.test(event.key);
    if (!explorer || !control || !key || explorer.vitlabWaits || !running(explorer)) return;
    explorer.vitlabWaits = true;
    const words = document.createElement("div");
    words.className = "vitlab-waiting";
    words.setAttribute("role", "status");
    words.textContent = "WAITING";
    const buttons = [...explorer.querySelectorAll("button")];
    const shown = [...explorer.querySelectorAll(":scope > :is(img, .widget-html)")];
    const byItself = explorer.classList.contains("vitlab-live") && buttons.includes(control);
    const say = setTimeout(() => explorer.insertBefore(words, explorer.querySelector(":scope > img")), 300);
    const answered = new MutationObserver(over);
    const watch = setInterval(() => { if (!explorer.isConnected || !running(explorer)) over(); }, 200);
    for (const part of byItself ? buttons : [...buttons, ...shown]) {
      answered.observe(part, {
        attributes: true, attributeFilter: ["disabled", "src"],
        childList: true, characterData: true, subtree: true,
      });
    }
    function over() {
      clearTimeout(say);
      clearInterval(watch);
      answered.disconnect();
      words.remove();
      explorer.vitlabWaits = false;
    }
  }
  for (const kind of ["change", "click", "keydown", "pointerdown"]) {
    document.addEventListener(kind, moved, true);
  }
})();
""".replace("WAITING", WAITING).replace("SMALLEST", f"{SMALLEST}")


def in_notebooks() -> None:
    """Tell the page of this notebook. Outside a notebook nothing happens."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        from IPython.display import display

        told = f'<style id="vitlab-style">{STYLE}</style><script>{SCRIPT}</script>'
        display({"text/html": told}, raw=True, metadata={"vitlab": "page"})
