#!/usr/bin/env python3
"""Writes the first inputs of the fuzz targets from the golden vectors and from PROTOCOL.md.

    fuzz/seeds.py        writes fuzz/corpus/<target>/seed-*
"""

import hashlib
import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def keep(target, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    name = "seed-" + hashlib.sha1(data).hexdigest()[:12]
    (folder / name).write_bytes(data)


def vectors():
    for name in ["canonical", "accept", "reject"]:
        document = json.loads((ROOT / "protocol/vectors" / f"{name}.json").read_text())
        yield from (it for it in document if "hex" in it or "text" in it)


def conversations(answers):
    """What a client does, and answers that it may expect: one conversation of each kind."""
    def said(*names):
        for name in names:
            body = answers[name]
            yield b"\0" + len(body).to_bytes(2, "big") + body

    register = ["Metadata", "RegisterConsumer"]
    yield b"\0" + b"".join(said("Metadata", "Fetch", "Fetch"))
    yield b"\1" + b"".join(said(*register, "Consume", "Consume"))
    yield b"\2" + b"".join(said(*register, "Consume", "Ack", "Consume"))
    yield b"\3" + b"".join(said("RegisterProducer", "Produce"))
    yield b"\4" + b"".join(said("ListTopics", "Metadata", "DescribeTopic"))
    yield b"\5" + b"".join(said("Metadata", "DescribeConsumer"))


COMPLETE = {
    "Metadata", "Fetch", "RegisterConsumer", "Consume", "Ack", "RegisterProducer", "Produce",
    "ListTopics", "DescribeTopic", "DescribeConsumer",
}


def main():
    stream = b""
    answers = {}
    for it in vectors():
        if it["kind"] in ("answer", "delivery") and "error" not in it:
            data = bytes.fromhex(it["hex"])
            # The longest says the most.
            if len(data[10:]) > len(answers.get(it.get("operation"), b"")):
                answers[it.get("operation")] = data[10:]
            if it["kind"] == "delivery":
                for what in (0, 1, 2):
                    name = ("Fetch", "Consume", "Consume")[what]
                    if answers.get(name):
                        several = list(conversations({**answers, name: data[10:]})) if COMPLETE <= answers.keys() else []
                        for talk in several[what:what + 1]:
                            keep("client", talk)
    for it in vectors():
        kind, data = it["kind"], bytes.fromhex(it.get("hex", "").replace(" ", ""))
        if kind in ("client_preface", "broker_preface"):
            keep("prefaces", data)
        elif kind in ("request", "answer", "error", "notice"):
            # length (4), opcode, flags, correlation (4), body
            target = "request" if kind == "request" else "answer"
            keep(target, data[4:5] + data[10:])
            stream += data
            if len(stream) > 1500:
                keep("frames", stream)
                stream = b""
        elif kind == "frame":
            keep("frames", data)
        elif kind in ("batch", "stored_batch"):
            keep("batch", data)
        elif kind == "delivery":
            keep("answer", data[4:5] + data[10:])
        elif kind in ("position_text", "topic_name"):
            keep("words", it["text"].encode())
    for talk in conversations(answers):
        keep("client", talk)
    for words in ["5s", "1h30m", "2026-11-22T10:00:00Z", "time:-1h", "offset:7", "latest", "a.b_c-1"]:
        keep("words", words.encode())
    for block in [(ROOT / "PROTOCOL.md").read_text()]:
        for line in block.splitlines():
            if line.startswith("C: "):
                keep("text", line[3:].encode())


main()
