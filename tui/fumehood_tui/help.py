"""The help screen: keys, the filter's language, and what the screen promises."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from fumehood_tui.dialogue import Dialogue

__all__ = ["HelpDialogue"]

_KEYS = """\
a  approve        d  deny, with a reason     v  view all of it
/  filter         s  stop a run              f  follow the trace
j k g G, arrows, PageUp PageDown   move      Tab  the other list
?  this help      q  quit (what waits goes on waiting)

Enter opens, it never approves. A HIGH risk asks you to type its id.
What does not fit must be viewed to its end before it is approved.
After a decision the next row can be decided 0.4 s later.
STALE: the ledger was not read for 5 s; what you see may be old.

Filter: all words must hold, upper and lower case are the same.
  risk>=med  risk=high  risk<=low     how risky
  tool:mail  agent:bot  user:al       part of the name
  session:s1 rule:money id:7f3a       part of it
  effect:deny                         trace lines only
  refund                              any text in a line
Example: risk>=med agent:support refund      Esc clears it

In the shell: fumehood approvals ls|show|approve|deny,
fumehood trace tail|show, fumehood stop."""


class HelpDialogue(Dialogue[None]):
    """Text only."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "leave", "back")]
    DEFAULT_CSS = """
    HelpDialogue > #box { width: 74; }
    HelpDialogue VerticalScroll { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
    """
    TITLE_TEXT = "Help"

    def inside(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(self.text(_KEYS), markup=False)
