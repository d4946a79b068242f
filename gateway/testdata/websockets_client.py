"""Drives the endpoint with the library websockets: argument 1 is its URL, argument 2 the Cookie header, argument 3 the heartbeat. Prints "ok" at the end."""

import asyncio
import sys

import websockets

HEARTBEAT = sys.argv[3]


async def closes(socket, code):
    try:
        while True:
            await asyncio.wait_for(socket.recv(), 10)
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd is not None, f"no close frame: {closed}"
        assert closed.rcvd.code == code, f"close code {closed.rcvd.code}, not {code}"


async def main():
    def connect():
        return websockets.connect(sys.argv[1], additional_headers={"Cookie": sys.argv[2]}, max_size=None, proxy=None)

    async with connect() as socket:
        await socket.send(HEARTBEAT)
        assert await asyncio.wait_for(socket.recv(), 10) == HEARTBEAT
        for payload in (b"", b"x" * 125):
            await asyncio.wait_for(await socket.ping(payload), 10)
        text = '{"signal": "site.signal", "opts": "' + "é" * 100_000 + '"}'
        await socket.send([text[i : i + 1000] for i in range(0, len(text), 1000)])
        await socket.send(b"\x00\xff")
        await socket.send([HEARTBEAT[:3], HEARTBEAT[3:]])
        assert await asyncio.wait_for(socket.recv(), 10) == HEARTBEAT
        await socket.close(4321, "of my own")
        assert socket.protocol.close_rcvd.code == 1000
    async with connect() as socket:
        await socket.send("x" * (1 << 20) + "x")
        await closes(socket, 1009)
    async with connect() as socket:
        await socket.send(b"\xff", text=True)
        await closes(socket, 1007)
    print("ok")


asyncio.run(main())
