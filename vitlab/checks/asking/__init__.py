"""Questions: what is asked lies in `vitlab/checks/questions` as data; `sheet` reads it, `box` shows it."""
