"""A picture of the state, drawn a few times a second; nobody calls it, it looks by itself.

- `picture` is a pure function of the sessions and their gate; the displays show it and decide nothing.
- A terminal gets a table that is drawn in place, and above it what went wrong, as it happens. Elsewhere, and in
  `log.txt` of each run, the same night is plain lines.
- What is expected is shown as "about", and not at all before there is something to expect it from. Only the ceiling is
  a guarantee.
- Nothing here can disturb the night: a display that is gone stays silent, a log that cannot be written is left.
- Everything shown passes `foreign.visible`, here and once.
"""

from runner.progress.display import LOG, Display, Lines, Screen, lane_cells
from runner.progress.looking import Progress
from runner.progress.picture import LaneRow, Picture, RunRow, seconds_left
from runner.progress.words import end_data, left_text, money_text, short, talk_text

__all__ = [
    "LOG",
    "Display",
    "LaneRow",
    "Lines",
    "Picture",
    "Progress",
    "RunRow",
    "Screen",
    "end_data",
    "lane_cells",
    "left_text",
    "money_text",
    "seconds_left",
    "short",
    "talk_text",
]
