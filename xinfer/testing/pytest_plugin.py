"""``pytest --xinfer FILE``: every row of a matrix is a test. Without the option nothing but this module is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.matrix import Matrix, Row


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("xinfer", "engine matrices")
    group.addoption(
        "--xinfer", dest="xinfer_files", action="append", default=[], metavar="FILE",
        help="judge each row of a matrix as a test; may be given again",
    )  # fmt: skip
    group.addoption(
        "--xinfer-config-dir", action="append", default=[], metavar="DIR",
        help="search DIR for model/, hw/, engine/, workload/ and rules/ files first; may be given again",
    )  # fmt: skip
    group.addoption(
        "--xinfer-measure", action="store_true",
        help="run the rows that are expected to run, with real engines, one at a time",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Read the files, if there are any; UsageError for what they or the options cannot mean."""
    files = [_absolute(file, config) for file in config.getoption("xinfer_files")]
    is_measured = bool(config.getoption("xinfer_measure"))
    if is_measured and not files:
        raise pytest.UsageError("--xinfer-measure needs --xinfer FILE")
    if is_measured and (config.getoption("numprocesses", None) or 0) > 1 and not hasattr(config, "workerinput"):
        raise pytest.UsageError("--xinfer-measure runs one engine at a time, as two disturb each other; leave -n out")
    if files:
        directories = [_absolute(each, config) for each in config.getoption("xinfer_config_dir")]
        config.pluginmanager.register(Rows(files, directories, is_measured=is_measured), "xinfer-rows")


def _absolute(typed: str, config: pytest.Config) -> Path:
    """Return a path as pytest has it: without .. in it, and with its links."""
    return Path(os.path.abspath(config.invocation_params.dir / typed))  # noqa: PTH100 -- resolve() follows links


class Rows:
    """What pytest asks when there are files."""

    def __init__(self, files: list[Path], directories: list[Path], *, is_measured: bool) -> None:
        from xinfer import engines, matrix  # noqa: PLC0415 -- other runs of pytest must not pay for it
        from xinfer.config.pieces import Pieces  # noqa: PLC0415
        from xinfer.errors import ConfigError  # noqa: PLC0415

        try:
            self.matrices = {file: matrix.load(file) for file in files}
            self.composer = Pieces([*directories, *engines.conf_directories()])
        except ConfigError as error:
            raise pytest.UsageError(str(error)) from error
        self.is_measured = is_measured

    def pytest_report_header(self) -> str:
        """Say what is done with how many rows."""
        count = sum(len(each.rows) for each in self.matrices.values())
        return f"xinfer: {count} rows, {'run where they are expected to' if self.is_measured else 'judged'}"

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> File | None:
        """Make tests of a file that pytest finds by itself, or by the id of a row."""
        found = self.matrices.get(file_path)
        return None if found is None else File.from_parent(parent, path=file_path, matrix=found, rows=self)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add the files that pytest has not found by itself."""
        there = {item.path for item in items if isinstance(item, Test)}
        named = {_absolute(arg.partition("::")[0], session.config) for arg in session.config.args}
        for path, found in self.matrices.items():
            if path not in there | named:
                file = File.from_parent(session, path=path, matrix=found, rows=self)
                items.extend(session.genitems(file))

    def check(self, row: Row) -> str | None:
        """Return what is not as expected of a row; null if all is."""
        from xinfer.matrix import overlaid  # noqa: PLC0415
        from xinfer.verbs import matrix  # noqa: PLC0415

        checked = matrix.check(overlaid(row, ["resume=off"]), self.composer)
        if self.is_measured and row.expect.runs and not checked.fault:
            (checked,) = matrix.run([checked], self.composer)
        return checked.fault


class File(pytest.File):
    """A matrix."""

    def __init__(self, *, matrix: Matrix, rows: Rows, **more: Any) -> None:
        super().__init__(**more)
        self.matrix = matrix
        self.rows = rows

    def collect(self) -> Iterator[Test]:
        """Yield a test for each row."""
        for row in self.matrix.rows:
            yield Test.from_parent(self, name=row.name, row=row, rows=self.rows)


class Test(pytest.Item):
    """A row."""

    def __init__(self, *, row: Row, rows: Rows, **more: Any) -> None:
        super().__init__(**more)
        self.row = row
        self.rows = rows

    def runtest(self) -> None:
        """Fail unless the row comes out as expected."""
        from xinfer.errors import Unexpected  # noqa: PLC0415

        fault = self.rows.check(self.row)
        if fault:
            raise Unexpected(fault)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Say in one line what is not as expected; a traceback is for what xinfer did not expect."""
        from xinfer.errors import XinferError  # noqa: PLC0415
        from xinfer.verbs.report import one_line  # noqa: PLC0415

        if isinstance(excinfo.value, XinferError):
            return one_line(str(excinfo.value))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Say where the row is from."""
        return self.path, None, self.name
