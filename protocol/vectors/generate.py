#!/usr/bin/env python3
"""Writes the golden vectors of the logdrive protocol, by an implementation that shares no code
with the broker, so that the two can be held against each other.

    generate.py              write canonical.json, accept.json and reject.json
    generate.py --check      write nothing; fail if a file differs from what would be written
    generate.py --show NAME  print one entry that is not to be refused as PROTOCOL.md shows it
    generate.py --list       names of all of them
"""

import json
import pathlib
import sys

# The directory holds vectors and their sources, nothing that a run leaves behind.
sys.dont_write_bytecode = True

from accept import accept
from canonical import canonical
from reject import reject
from wire import join

HERE = pathlib.Path(__file__).resolve().parent


def finished(entries):
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
    out = []
    for entry in entries:
        entry = dict(entry)
        pieces = entry.pop("pieces", None)
        if pieces is not None:
            entry["hex"] = join(pieces).hex()
        out.append(entry)
    lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in out)
    return f"[\n{lines}\n]\n"


def show(name):
    """The entry as a block of PROTOCOL.md: one field on a line, its path and value behind it."""
    shown = [entry for entry in canonical() + accept() if "pieces" in entry]
    entry = next((entry for entry in shown if entry["name"] == name), None)
    if entry is None:
        sys.exit(f"no entry with fields is named {name!r}; see --list")
    lines = []
    for data, path, shown in entry["pieces"]:
        rows = [data[at : at + 16] for at in range(0, len(data), 16)] or [b""]
        for row in rows[:-1]:
            lines.append(row.hex(" "))
        lines.append(f"{rows[-1].hex(' '):<48}; {path} = {shown}")
    return "\n".join(lines)


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--show"] and len(arguments) == 2:
        print(show(arguments[1]))
        return
    if arguments == ["--list"]:
        print("\n".join(entry["name"] for entry in canonical() + accept()))
        return
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    stale = []
    for name, entries in [("canonical", canonical()), ("accept", accept()), ("reject", reject())]:
        path, text = HERE / f"{name}.json", finished(entries)
        if not arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        sys.exit(
            f"{', '.join(stale)}: not what generate.py writes; run it and look at the difference"
        )


if __name__ == "__main__":
    main()
