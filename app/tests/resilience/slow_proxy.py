"""A slow way to a port: python3 slow_proxy.py LISTEN TARGET SECONDS; every piece waits that long."""

import asyncio
import sys

LISTEN, TARGET, SECONDS = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
PIECE = 1024


async def carry(reader, writer):
    """Pass on what comes, piece by piece, until the sender ends."""
    try:
        while piece := await reader.read(PIECE):
            await asyncio.sleep(SECONDS)
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(reader, writer):
    """One connection, both ways."""
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", TARGET)
    await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))


async def main():
    """Serve until the end."""
    server = await asyncio.start_server(serve, "0.0.0.0", LISTEN)
    await server.serve_forever()


asyncio.run(main())
