"""A WebSocket server for the tests: websocket_server.py PORT DIRECTORY.

It answers the message "ask VALUE" with VALUE, and "connection" with a name of the connection. It
answers "hold VALUE" only once there is a file DIRECTORY/go/VALUE; meanwhile there is a file
DIRECTORY/held/VALUE. Each message and answer is a line with its end.
"""

import asyncio
import itertools
import os
import sys

import websockets

numbers = itertools.count()


async def released(directory, value):
    while not os.path.exists(os.path.join(directory, "go", value)):
        await asyncio.sleep(0.005)


async def hold(ws, directory, value):
    held = os.path.join(directory, "held", value)
    open(held, "w").close()
    waits = {asyncio.ensure_future(released(directory, value)), asyncio.ensure_future(ws.wait_closed())}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        os.remove(held)


async def serve(ws, directory):
    name = f"connection {next(numbers)}"
    async for message in ws:
        command, _, value = message.strip().partition(" ")
        if command == "connection":
            value = name
        if command == "hold":
            await hold(ws, directory, value)
        await ws.send(value + "\n")


async def main(port, directory):
    async with websockets.serve(lambda ws: serve(ws, directory), "127.0.0.1", port):
        await asyncio.Future()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
