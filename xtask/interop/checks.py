"""What every script of this folder checks with."""


class Checks:
    """Counts what was checked, prints it, and remembers what differed."""

    def __init__(self):
        self.made = 0
        self.failed = []

    def that(self, what, ours, theirs):
        """`ours` (what the foreign reader sees) equals `theirs` (what alluvium says)."""
        self.holds(what, ours == theirs, f"the reader has {shorten(ours)}, alluvium {shorten(theirs)}")

    def holds(self, what, condition, otherwise=""):
        """`condition` is true."""
        self.note(what, [] if condition else [otherwise])

    def note(self, what, problems):
        """`what` was checked and has these problems."""
        self.made += 1
        print(f"{'DIFFERS' if problems else 'ok':8}{what}", *problems[:3], sep="\n          ", flush=True)
        if problems:
            self.failed.append(what)

    def end(self, subject):
        """Says how many checks of `subject` were made; the script's exit code."""
        print(f"interop: {self.made} checks of {subject}, {len(self.failed)} differ")
        return 1 if self.failed else 0


def shorten(value):
    """The text of a value, at most 300 characters of it."""
    text = str(value)
    return text if len(text) <= 300 else text[:300] + " …"
