"""What a compiled program sends between devices, read from its text."""

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

_BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2,
    "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8,
}  # fmt: skip
_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_OPERATION = re.compile(rf"= (.*?) ({'|'.join(_KINDS)})(-start)?\(")
_SHAPE = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply)=%?([\w.\-]+)")
_LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_CONSTANT = re.compile(r" [su]32\[\]\S* constant\((\d+)\)")
_NAMED = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = ")
_INPUTS = re.compile(r" (add|copy|get-tuple-element)\(([^)]*)\)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LISTED_GROUP = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_COUNTED_GROUP = re.compile(r"replica_groups=\[\d+,(\d+)\]<=")


@dataclass(frozen=True)
class Traffic:
    """One kind of collective in a program."""

    kind: str
    times: int
    """It runs, loops counted."""
    bytes: float
    """That each device sends, by the ring algorithm."""
    largest: float
    """Bytes of the largest array that one of them makes."""


def traffic_of(program: str) -> list[Traffic]:
    """The collectives of a compiled program's text, HLO as `Compiled.as_text` gives it."""
    computations, entry = _computations(program)
    runs = _runs(computations, entry)
    times: Counter[str] = Counter()
    sent: dict[str, float] = defaultdict(float)
    largest: dict[str, float] = defaultdict(float)
    for name, lines in computations.items():
        for line in lines:
            if (found := _OPERATION.search(line)) and runs[name]:
                kind, made = found[2], _made(found[1], found[2], starts=bool(found[3]))
                times[kind] += runs[name]
                sent[kind] += runs[name] * _sent(kind, sum(made), _group(line))
                largest[kind] = max(largest[kind], *made)
    return [Traffic(kind, times[kind], sent[kind], largest[kind]) for kind in sorted(times)]


def _computations(program: str) -> tuple[dict[str, list[str]], str]:
    """Each computation's lines by its name, and the entry's name."""
    computations: dict[str, list[str]] = {}
    entry = name = ""
    for line in program.splitlines():
        if line.endswith("{") and not line.startswith(" ") and "->" in line:
            name = line.removeprefix("ENTRY ").split()[0].lstrip("%").partition("(")[0]
            computations[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif name:
            computations[name].append(line)
    return computations, entry


def _runs(computations: dict[str, list[str]], entry: str) -> Counter[str]:
    """How often each computation runs; of branches, each counts as if it were taken."""
    runs: Counter[str] = Counter()

    def visit(name: str, times: int) -> None:
        runs[name] += times
        for line in computations.get(name, ()):
            if loop := _LOOP.search(line):
                condition, body = (computations.get(each, []) for each in loop.groups())
                visit(loop[2], times * _trips(line, condition, body))
                continue
            called = _CALLED.findall(line)
            if branches := _BRANCHES.search(line):
                called += [each.strip().lstrip("%") for each in branches[1].split(",")]
            for each in called:
                visit(each, times)

    visit(entry, 1)
    return runs


def _trips(line: str, condition: list[str], body: list[str]) -> int:
    """How often a loop runs that counts from 0 up to a constant; 1 if it is of another kind."""
    if known := _KNOWN_TRIPS.search(line):
        return int(known[1])
    text = "\n".join(condition)
    limits = [int(each) for each in _CONSTANT.findall(text)]
    if "direction=LT" not in text or len(limits) != 1:
        return 1
    counter = re.search(r"index=(\d+)", text)
    step = _step(body, int(counter[1])) if counter else 1
    return -(-limits[0] // step)


def _step(body: list[str], counter: int) -> int:
    """By how much a loop's body raises the entry of its state that counts."""
    lines = {found[1]: line for line in body if (found := _NAMED.match(line))}
    root = next((line for line in body if line.lstrip().startswith("ROOT")), "")
    operands = re.findall(r"%([\w.\-]+)", root.partition(" tuple(")[2].partition(")")[0])
    step, name = 0, operands[counter] if counter < len(operands) else ""
    while (line := lines.get(name)) and (inputs := _INPUTS.search(line)):
        name, *others = re.findall(r"%([\w.\-]+)", inputs[2])
        if inputs[1] == "add":
            constants = [_CONSTANT.search(lines.get(each, "")) for each in (name, *others)]
            step += sum(int(each[1]) for each in constants if each)
            if constants[0] and others:
                name = others[0]
    return step or 1


def _made(shapes: str, kind: str, starts: bool) -> list[float]:
    """Bytes of the arrays that an operation makes: the compiler may have put several together."""
    sizes: list[float] = [
        _BYTES.get(dtype, 4) * math.prod(map(int, filter(None, dims.split(","))))
        for dtype, dims in _SHAPE.findall(shapes)
    ]
    if starts and kind == "all-gather":
        return sizes[len(sizes) // 2 :]  # its operands stand in front
    if starts and kind == "collective-permute":
        return [max(sizes)]  # beside its operand, and two counters
    return sizes


def _group(line: str) -> int:
    """Devices that take part together."""
    if listed := _LISTED_GROUP.search(line):
        return listed[1].count(",") + 1
    counted = _COUNTED_GROUP.search(line)
    return int(counted[1]) if counted else 2


def _sent(kind: str, made: float, group: int) -> float:
    share = (group - 1) / group
    return {
        "all-gather": share * made,
        "all-reduce": 2 * share * made,
        "reduce-scatter": (group - 1) * made,
        "all-to-all": share * made,
        "collective-permute": made,
    }[kind]
