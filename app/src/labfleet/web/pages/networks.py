"""Networks as pictures: GraphML and lists of edges, laid out by springs and drawn as SVG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

from labfleet.web.pages.tables import number, read_rows

NODES = 400
EDGES = 4000
NAMED = 80
SIDE = 800
MARGIN = 60
# So many pairs of nodes are looked at for one picture: the larger a network, the fewer rounds it gets.
WORK = 400_000
ALONE = 30
ROUNDS = (8, 180)
HEADS = (("source", "target"), ("from", "to"), ("node1", "node2"), ("a", "b"))
WEIGHTS = ("weight", "w", "value", "correlation", "score")


@dataclass
class Network:
    """Nodes with their labels, and edges with their weights (1 where the file has none)."""

    nodes: dict[str, str] = field(default_factory=dict)
    edges: list[tuple[str, str, float]] = field(default_factory=list)
    directed: bool = False


class _GraphML:
    """Reads GraphML as it comes. Entities of the file's own are refused: no network needs them."""

    def __init__(self) -> None:
        self.network = Network()
        self._keys: dict[str, str] = {}
        self._node = self._key = ""
        self._edge = self._inside_data = False
        self._text: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self.parser.EntityDeclHandler = self._entity

    def _entity(self, *told: object) -> None:
        raise ValueError("entities")

    def _start(self, tag: str, values: Mapping[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name == "key":
            self._keys[values.get("id", "")] = values.get("attr.name", values.get("id", "")).lower()
        elif name == "graph":
            self.network.directed = values.get("edgedefault") == "directed"
        elif name == "node":
            self._node = values.get("id", "")
            self.network.nodes.setdefault(self._node, self._node)
        elif name == "edge":
            self._edge = True
            source, target = values.get("source", ""), values.get("target", "")
            self.network.edges.append((source, target, 1.0))
        elif name == "data":
            self._key, self._inside_data = self._keys.get(values.get("key", ""), ""), True
            self._text.clear()

    def _data(self, text: str) -> None:
        if self._inside_data:
            self._text.append(text)

    def _end(self, tag: str) -> None:
        name = tag.rpartition(":")[2]
        if name == "data":
            self._inside_data = False
            text = "".join(self._text).strip()
            if self._edge and self._key in WEIGHTS and (weight := number(text)) is not None:
                source, target, _ = self.network.edges[-1]
                self.network.edges[-1] = (source, target, weight)
            elif not self._edge and self._node and self._key in {"name", "label"} and text:
                self.network.nodes[self._node] = text
        elif name == "node":
            self._node = ""
        elif name == "edge":
            self._edge = False


def read_network(data: bytes, name: str, separator: str | None) -> Network | None:
    """The network of a file; None for one that holds none."""
    if name.endswith((".graphml", ".xml")):
        reader = _GraphML()
        try:
            reader.parser.Parse(data, True)
        except (expat.ExpatError, ValueError):
            return None
        network = reader.network
    else:
        network = _from_list(data.decode("utf-8", errors="replace"), separator or "\t")
    for source, target, _ in network.edges:
        network.nodes.setdefault(source, source)
        network.nodes.setdefault(target, target)
    return network if network.nodes else None


def _from_list(text: str, separator: str) -> Network:
    network = Network()
    rows = read_rows(text, separator) or []
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    pair = next((pair for pair in HEADS if set(pair) <= set(head)), None)
    first, second = (head.index(pair[0]), head.index(pair[1])) if pair else (0, 1)
    weight = next((head.index(name) for name in WEIGHTS if name in head), 2 if pair is None else -1)
    for row in rows[1:] if pair else rows:
        if len(row) > max(first, second):
            value = number(row[weight]) if 0 <= weight < len(row) else None
            network.edges.append((row[first], row[second], 1.0 if value is None else value))
    return network


def drawing(network: Network) -> str:
    """The picture, and a line below it where it shows a part only."""
    nodes, edges, told = _strongest(network)
    degree = Counter(end for edge in edges for end in edge[:2])
    places = _layout([node for node in nodes if degree[node]], edges)
    alone = [node for node in nodes if not degree[node]]
    places |= {node: _beside(number, len(alone)) for number, node in enumerate(alone)}
    heaviest = max((abs(weight) for *_, weight in edges), default=1) or 1
    lines = "".join(
        f'<line x1="{places[a][0]:.1f}" y1="{places[a][1]:.1f}" x2="{places[b][0]:.1f}"'
        f' y2="{places[b][1]:.1f}" stroke-width="{0.6 + 2.4 * abs(weight) / heaviest:.2f}"'
        f' stroke="{"#b4552d" if weight < 0 else "#7d8ea1"}"/>'
        for a, b, weight in edges
    )
    busiest = max(degree.values(), default=1)
    spots = "".join(
        f'<circle cx="{places[node][0]:.1f}" cy="{places[node][1]:.1f}"'
        f' r="{4 + 7 * math.sqrt(degree[node] / busiest):.1f}"><title>{escape(network.nodes[node])}</title>'
        "</circle>"
        for node in nodes
    )
    names = "".join(
        f'<text x="{places[node][0]:.1f}" y="{places[node][1] - 12:.1f}">'
        f"{escape(network.nodes[node][:20])}</text>"
        for node in (nodes if len(nodes) <= NAMED else ())
    )
    below = f'<text x="{SIDE / 2}" y="{SIDE - 8}">{escape(told)}</text>' if told else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}">'
        f'<rect width="{SIDE}" height="{SIDE}" fill="#fff"/><g stroke-opacity="0.7">{lines}</g>'
        f'<g fill="#0a5c9e" stroke="#fff" stroke-width="1.5">{spots}</g>'
        '<g font-family="system-ui, sans-serif" font-size="12" text-anchor="middle" fill="#17212c">'
        f"{names}{below}</g></svg>"
    )


def _strongest(network: Network) -> tuple[list[str], list[tuple[str, str, float]], str]:
    degree = Counter(end for edge in network.edges for end in edge[:2])
    nodes = sorted(network.nodes, key=lambda node: -degree[node])[:NODES]
    chosen = set(nodes)
    inside = [
        edge for edge in network.edges if edge[0] in chosen and edge[1] in chosen and edge[0] != edge[1]
    ]
    edges = sorted(inside, key=lambda edge: -abs(edge[2]))[:EDGES]
    left = len(network.nodes) - len(nodes), len(inside) - len(edges)
    if not any(left):
        return nodes, edges, ""
    return nodes, edges, f"The {len(nodes)} busiest nodes and {len(edges)} strongest edges of them."


def _beside(number: int, count: int) -> tuple[float, float]:
    """The place of a node without edges: in rows at the bottom, out of the others' way."""
    columns = min(count, ALONE)
    row, column = divmod(number, columns)
    return MARGIN + (SIDE - 2 * MARGIN) * (column + 0.5) / columns, SIDE - MARGIN / 2 - 14 * row


def _layout(nodes: list[str], edges: list[tuple[str, str, float]]) -> dict[str, tuple[float, float]]:
    """Springs along edges, repulsion between all (Fruchterman and Reingold), begun on a circle."""
    count = max(len(nodes), 1)
    index = {node: number for number, node in enumerate(nodes)}
    xs = [math.cos(2 * math.pi * number / count) for number in range(len(nodes))]
    ys = [math.sin(2 * math.pi * number / count) for number in range(len(nodes))]
    pairs = [(index[a], index[b]) for a, b, _ in edges]
    wish = 2 / math.sqrt(count)
    rounds = min(max(WORK * 2 // (count * count), ROUNDS[0]), ROUNDS[1])
    for step in range(rounds):
        _move(xs, ys, pairs, wish, 0.25 * (1 - step / rounds))
    return dict(zip(nodes, _fitted(xs, ys), strict=True))


def _move(xs: list[float], ys: list[float], pairs: list[tuple[int, int]], wish: float, heat: float) -> None:
    count = len(xs)
    dxs, dys = [-0.5 * x for x in xs], [-0.5 * y for y in ys]  # loose parts stay near the middle
    square = wish * wish
    for one in range(count):
        x, y, dx, dy = xs[one], ys[one], 0.0, 0.0
        for other in range(one):
            across, up = x - xs[other], y - ys[other]
            force = square / (across * across + up * up + 1e-6)
            across, up = across * force, up * force
            dx, dy = dx + across, dy + up
            dxs[other] -= across
            dys[other] -= up
        dxs[one] += dx
        dys[one] += dy
    for one, other in pairs:
        across, up = xs[one] - xs[other], ys[one] - ys[other]
        force = math.hypot(across, up) / wish
        dxs[one] -= across * force
        dys[one] -= up * force
        dxs[other] += across * force
        dys[other] += up * force
    for one in range(count):
        length = math.hypot(dxs[one], dys[one]) or 1
        xs[one] += dxs[one] / length * min(length, heat)
        ys[one] += dys[one] / length * min(length, heat)


def _fitted(xs: list[float], ys: list[float]) -> list[tuple[float, float]]:
    room = SIDE - 2 * MARGIN
    return list(zip(_stretched(xs, room), _stretched(ys, room), strict=True))


def _stretched(values: list[float], room: float) -> list[float]:
    low, high = min(values, default=0), max(values, default=0)
    return [MARGIN + room * ((value - low) / (high - low) if high > low else 0.5) for value in values]
