"""The policy worker: a process that loads policies, locks itself in, and answers until its socket closes.

Started as a script (`python -I -S worker.py FD`) with an empty environment; imports regorus, what it
is told to lock itself in with, and nothing else of Fumehood. One request at a time:

    greeting  length(4) JSON {path, lock_down}; what it needs is imported while the rest is made ready
    hello     length(4) JSON {files, lengths, data, rules, warm, processors, memory_bytes, call_s}
    ready     length(4) JSON {layers} or {error, layer, remedy}
    request   length(4) number of the rule(2) input document
    answer    length(4) status(1) text; status is 0 for a value, 1 for an error, 2 for undefined

A panic ends the process: the parent sees the socket close.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys

_HEADER = struct.Struct("!I")
_NUMBER = struct.Struct("!H")
_UNDEFINED = '"<undefined>"'


def receive(link: socket.socket) -> bytes:
    """One message; b"" when the parent is gone."""
    data = link.recv(65536)
    if len(data) < _HEADER.size:
        return b""
    wanted = _HEADER.unpack_from(data)[0] + _HEADER.size
    parts, got = [data], len(data)
    while got < wanted:
        more = link.recv(min(wanted - got, 1 << 20))
        if not more:
            return b""
        parts.append(more)
        got += len(more)
    return b"".join(parts)[_HEADER.size :]


def receive_one(link: socket.socket) -> bytes:
    """One message, and not a byte of the next; ends this process when the parent is gone."""
    size = link.recv(_HEADER.size, socket.MSG_WAITALL)
    if not size:
        raise SystemExit(0)
    return link.recv(_HEADER.unpack(size)[0], socket.MSG_WAITALL)


def send(link: socket.socket, message: bytes) -> None:
    link.sendall(_HEADER.pack(len(message)) + message)


def load(hello: dict) -> object:  # type: ignore[type-arg]
    """An engine with everything loaded and every rule asked once, so that nothing is left to open."""
    import regorus

    engine = regorus.Engine()
    engine.set_gather_prints(True)
    engine.set_policy_length_config(**hello["lengths"])
    for name, text in hello["files"]:
        engine.add_policy(name, text)
    engine.add_data_json(hello["data"])
    engine.set_input_json("{}")
    for rule in hello["warm"]:
        engine.eval_rule_as_json(rule)
    return engine


def prepare(greeting: dict):  # type: ignore[no-untyped-def, type-arg]
    """Import what will be needed; the function that confines this process for good."""
    sys.path[:] = greeting["path"]
    importlib.import_module("regorus")
    if greeting["lock_down"] is None:
        return limit_memory
    module, _, function = greeting["lock_down"].partition(":")
    return getattr(importlib.import_module(module), function)


def use(processors: list[int]) -> None:
    """Decide on any of these, wherever this process was put while it was made ready (see aside.py)."""
    with contextlib.suppress(OSError):  # none of them is ours any more: stay here
        os.sched_setaffinity(0, processors)


def limit_memory(*, memory_bytes: int) -> tuple[str, ...]:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    return ()


def answer(engine, rule: str, document: bytes) -> bytes:  # type: ignore[no-untyped-def]
    try:
        engine.set_input_json(document.decode())
        value = engine.eval_rule_as_json(rule)
    except Exception as error:  # noqa: BLE001 - regorus raises RuntimeError for everything
        return b"\x01" + str(error).split("Stack backtrace:")[0].strip().encode(errors="replace")
    return b"\x02" if value == _UNDEFINED else b"\x00" + value.encode()


def main() -> None:
    link = socket.socket(fileno=int(sys.argv[1]))
    greeting = json.loads(receive_one(link))
    try:
        lock_in = prepare(greeting)
        hello = json.loads(receive_one(link))
        engine = load(hello)
        use(hello["processors"])
        layers = list(lock_in(memory_bytes=hello["memory_bytes"]))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        said = {name: str(getattr(error, name)) for name in ("layer", "remedy") if hasattr(error, name)}
        send(link, json.dumps({"error": f"{type(error).__name__}: {error}", **said}).encode())
        return
    rules, call_s = hello["rules"], hello["call_s"]
    del hello
    gc.collect()
    gc.freeze()  # what is loaded stays; no collection goes through it while somebody waits
    send(link, json.dumps({"layers": layers}).encode())
    while message := receive(link):
        signal.alarm(call_s)  # should the parent die meanwhile, this ends us
        reply = answer(engine, rules[_NUMBER.unpack_from(message)[0]], message[_NUMBER.size :])
        signal.alarm(0)
        send(link, reply)


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 - a panic or a closed socket: say nothing, end
        os._exit(70)
