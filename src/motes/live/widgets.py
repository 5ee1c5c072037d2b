"""The two things that the screens of `motes top` are made of: a table of figures, and lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.coordinate import Coordinate
from textual.widgets import DataTable, RichLog

from motes.live.cells import Column

LINES_KEPT = 500
NAME_LEAST = 12
NOTHING = "nothing yet"


class Figures(DataTable[Text]):
    """Names and numbers. The names get the width that the numbers leave.

    The cursor stays with the name that somebody moved it to, also when that gets another place.
    """

    DEFAULT_CSS = """
    Figures { height: auto; scrollbar-size-vertical: 1; overflow-x: hidden; }
    Figures:nocolor > .datatable--cursor { text-style: reverse; }
    Figures:focus > .datatable--header { text-style: bold underline; }
    """

    def __init__(self, id: str, name: str, columns: Sequence[Column], *, show_cursor: bool = False) -> None:
        super().__init__(id=id, cursor_type="row", show_cursor=show_cursor, cell_padding=0)
        self._head = name
        self._figures = tuple(columns)
        self._rows: list[Sequence[str]] = []
        self._name_width = 0
        self._held = ""
        """The name that the cursor stays with, once somebody has moved it; before, it stays at the top."""
        self._is_writing = False

    def on_resize(self) -> None:
        width = self.app.size.width - 1 - sum(each.width for each in self._figures)
        if width == self._name_width:
            return
        self._name_width = max(width, NAME_LEAST)
        self.clear(columns=True)
        self.add_column(self._head, width=self._name_width)
        for each in self._figures:
            self.add_column(Text(each.title, justify="right"), width=each.width)
        rows, self._rows = self._rows, []
        self.show(rows)

    @property
    def chosen(self) -> str:
        """The name under the cursor, or nothing."""
        return self._rows[self.cursor_row][0] if self.cursor_row < len(self._rows) else ""

    def watch_cursor_coordinate(self, old_coordinate: Coordinate, new_coordinate: Coordinate) -> None:
        super().watch_cursor_coordinate(old_coordinate, new_coordinate)
        if not self._is_writing and new_coordinate != old_coordinate:
            self._held = self.chosen

    def show(self, rows: Sequence[Sequence[str]]) -> None:
        """Show these rows. Only what is new is written, so that nothing moves that somebody looks at."""
        if not self.columns:
            self._rows = list(rows)
            return
        self._is_writing = True
        while self.row_count > len(rows):
            self.remove_row(self.coordinate_to_cell_key(Coordinate(self.row_count - 1, 0)).row_key)
        for index, row in enumerate(rows):
            if index >= self.row_count:
                self.add_row(*self._cells(row))
            elif row != self._rows[index]:
                for column, cell in enumerate(self._cells(row)):
                    self.update_cell_at(Coordinate(index, column), cell)
        self._rows = list(rows)
        names = [row[0] for row in rows]
        if self._held in names:
            self.move_cursor(row=names.index(self._held))
        self._is_writing = False

    def _cells(self, row: Sequence[str]) -> list[Text]:
        name, *figures = row
        shown = name if len(name) <= self._name_width else f"{name[: self._name_width - 1]}…"
        return [Text(shown), *(Text(cell, justify="right") for cell in figures)]


class Lines(RichLog):
    """The newest lines; while somebody has scrolled up to read, they stay."""

    DEFAULT_CSS = """
    Lines { height: 1fr; border-top: solid $border; scrollbar-size-vertical: 1; }
    Lines:focus { border-top: heavy $border; }
    """

    def __init__(self, id: str, title: str) -> None:
        super().__init__(id=id, max_lines=LINES_KEPT, wrap=True, min_width=0, markup=False)
        self.border_title = title
        self._shown: Sequence[str] | None = None

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines, all that there are."""
        if lines == self._shown or not self.is_vertical_scroll_end:
            return
        self._shown = list(lines)
        self.clear()
        for line in lines or (NOTHING,):
            self.write(Text(line))
