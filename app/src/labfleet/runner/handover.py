"""One question to the resident publisher: a JSON line (and perhaps bytes) out, a JSON line in."""

from labfleet.runner.lean import AF_UNIX, SOCK_STREAM, Socket, dumps, loads, read
from labfleet.runner.problem import malformed, unavailable

CHUNK = 65536
STDIN = 0


def ask(path: str, question: dict[str, object], body_bytes: int = 0) -> tuple[int, object]:
    """Status and body of the publisher's answer; a `Problem` (503) when nobody answers.

    `body_bytes` bytes of standard input follow the question.
    """
    channel = Socket(AF_UNIX, SOCK_STREAM)
    try:
        channel.connect(path)
        channel.sendall(dumps(question).encode() + b"\n")
        _pump(channel, body_bytes)
        answer = loads(_line(channel).decode())
    except (OSError, ValueError) as error:
        raise unavailable(f"The publisher at {path} doesn't answer: {error}.") from None
    finally:
        channel.close()
    if not isinstance(answer, dict):
        raise unavailable("The publisher's answer makes no sense.")
    return int(answer["status"]), answer["body"]


def read_body(length: int) -> bytes:
    """`length` bytes of standard input; a `Problem` (400) when it ends before."""
    chunks = []
    while length:
        chunk = read(STDIN, min(CHUNK, length))
        if not chunk:
            raise malformed("The body ends before its announced length.")
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)


def _pump(channel: Socket, length: int) -> None:
    while length:
        chunk = read_body(min(CHUNK, length))
        channel.sendall(chunk)
        length -= len(chunk)


def _line(channel: Socket) -> bytes:
    answer = b""
    while not answer.endswith(b"\n"):
        chunk = channel.recv(CHUNK)
        if not chunk:
            raise ValueError("it closed the connection")
        answer += chunk
    return answer
