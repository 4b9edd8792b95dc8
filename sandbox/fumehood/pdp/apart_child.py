"""An engine in a process apart (see apart.py): loads policies that nobody has checked yet, and evaluates what
it is asked. It may take too long or too much; its parent ends it then.

Started as a script (`python -I -S apart_child.py FD`) with an empty environment; imports regorus, and little
else, because this costs more than what it is asked for. Each message has its length(4) before it. What is
asked is marshalled; an answer is a status(1) and a text:

    greeting   {path, memory_bytes, cpu_s, load_s}
    asked      {do: "load", files, data, lengths}                     → an empty value, or an error
               {do: "each", documents, asked: [(how, text, place)]}   → an answer for each, as they come
               {do: "prints" | "cover" | "coverage"}                  → a value, of the first as JSON

*how* is "rule" or "query"; *place* is that of the input in *documents*, None: none is given. The status is
0 for a value, 1 for an error, 2 for a panic and the end of this process.
"""

import marshal
import os
import resource
import sys


def read(link: int, size: int) -> bytes:
    """So many bytes; ends this process when the parent is gone."""
    parts = []
    while size:
        part = os.read(link, min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def asked_next(link: int):  # type: ignore[no-untyped-def]
    return marshal.loads(read(link, int.from_bytes(read(link, 4), "big")))  # noqa: S302 - from our parent


def answer(link: int, status: int, text: str) -> None:
    encoded = text.encode(errors="replace")
    whole = memoryview((len(encoded) + 1).to_bytes(4, "big") + bytes([status]) + encoded)
    while whole:
        whole = whole[os.write(link, whole) :]


def limit_cpu(seconds: int) -> None:
    """Should the parent die meanwhile, this ends us."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def loaded(asked: dict):  # type: ignore[no-untyped-def, type-arg]
    """An engine with everything loaded and no input, and the answer."""
    import regorus

    engine = regorus.Engine()
    engine.set_gather_prints(True)
    if asked["lengths"]:
        engine.set_policy_length_config(**asked["lengths"])
    try:
        for name, text in asked["files"]:
            engine.add_policy(name, text)
        engine.add_data_json(asked["data"])
    except Exception as error:  # noqa: BLE001 - regorus raises RuntimeError for everything
        return None, (1, str(error))
    analyse(engine)
    return engine, (0, "")


def analyse(engine) -> str:  # type: ignore[no-untyped-def]
    """What takes its time before anything is asked; what is wrong is said again to whoever asks."""
    try:
        return engine.eval_query_as_json("true")  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001 - see above
        return str(error)


def evaluated(engine, asked: dict):  # type: ignore[no-untyped-def, type-arg]
    """An answer for each question; none where there are no policies, which was said before."""
    if engine is None:
        return
    ask = {"rule": engine.eval_rule_as_json, "query": engine.eval_query_as_json}
    for how, text, place in asked["asked"]:
        try:
            if place is not None:
                engine.set_input_json(asked["documents"][place])
            yield 0, ask[how](text)
        except Exception as error:  # noqa: BLE001 - see above
            yield 1, str(error)


def about(engine, what: str) -> str:  # type: ignore[no-untyped-def]
    if what == "prints":
        import json

        return json.dumps(engine.take_prints())
    if what == "coverage":
        return engine.get_coverage_report_as_json()  # type: ignore[no-any-return]
    engine.set_enable_coverage(True)
    return ""


def main(link: int) -> None:
    greeting = asked_next(link)
    sys.path[:] = greeting["path"]
    import regorus  # noqa: F401 - while the parent reads the policies

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (greeting["memory_bytes"],) * 2)
    engine = None
    while True:
        asked = asked_next(link)
        try:
            limit_cpu(greeting["load_s" if asked["do"] == "load" else "cpu_s"])
            if asked["do"] == "load":
                engine, said = loaded(asked)
                answer(link, *said)
            elif asked["do"] == "each":
                for said in evaluated(engine, asked):
                    answer(link, *said)
                    limit_cpu(greeting["cpu_s"])
            else:
                answer(link, 0, about(engine, asked["do"]))
        except BaseException as error:  # a panic of the Rust engine
            answer(link, 2, str(error))
            raise


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except BaseException:  # noqa: BLE001 - a panic or a closed socket: say nothing, end
        os._exit(70)
