"""Load: wrk where it is found, else a generator of our own, which says so."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Load", "generate", "generator"]

_SCRIPT = """
local tokens, turn = {}, 0
for line in io.lines("%s") do tokens[#tokens + 1] = "Bearer " .. line end
request = function()
  turn = turn %% #tokens + 1
  return wrk.format("GET", nil, { ["Authorization"] = tokens[turn] })
end
done = function(summary)
  local errors = summary.errors
  print("bad", errors.connect + errors.read + errors.write + errors.status + errors.timeout)
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did: requests a second, and in all."""

    rate: float
    requests: int


def generator() -> str:
    """What generates the load."""
    return "wrk" if shutil.which("wrk") else "a generator in Python, which takes time from the servers"


def generate(url: str, tokens: Path, concurrency: int, seconds: float) -> Load:
    """Send requests with the tokens of a file, one a line, in turn.

    Raises:
        RuntimeError: one was not answered with 200.
    """
    if shutil.which("wrk"):
        return _wrk(url, tokens, concurrency, seconds)
    return asyncio.run(_python(url, tokens.read_text().split(), concurrency, seconds))


def _wrk(url: str, tokens: Path, concurrency: int, seconds: float) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % tokens)
        script.flush()
        command = ["wrk", "-t1", f"-c{concurrency}", f"-d{seconds}s", "-s", script.name, url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "bad\t0" not in said:
        raise RuntimeError(f"{url} did not answer every request with 200:\n{said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    requests = re.search(r"(\d+) requests in", said)
    assert rate is not None
    assert requests is not None
    return Load(float(rate[1]), int(requests[1]))


async def _python(url: str, tokens: list[str], concurrency: int, seconds: float) -> Load:
    parts = urlsplit(url)
    texts = itertools.cycle(
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        for token in tokens
    )
    started = time.perf_counter()
    counts = await asyncio.gather(*(_client(parts, texts, started + seconds) for _ in range(concurrency)))
    return Load(sum(counts) / (time.perf_counter() - started), sum(counts))


async def _client(parts, texts, until: float) -> int:
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    count = 0
    while time.perf_counter() < until:
        writer.write(next(texts))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"{parts.geturl()} answered {head!r}")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        count += 1
        if b"\r\nconnection: close" in head.lower():  # as Hypercorn does after a thousand requests
            writer.close()
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.close()
    return count
