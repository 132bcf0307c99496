"""An SMTP server for the tests: smtp_server.py PORT DIRECTORY.

It puts each message into DIRECTORY/mail, in a file named by its subject. A message to hold@... it
accepts only once there is a file of its subject in DIRECTORY/go; meanwhile there is one in
DIRECTORY/held.
"""

import asyncio
import email
import os
import sys

from aiosmtpd.smtp import SMTP


class Handler:
    def __init__(self, directory):
        self.directory = directory

    async def handle_DATA(self, server, session, envelope):
        name = email.message_from_bytes(envelope.content)["Subject"]
        if envelope.rcpt_tos[0].startswith("hold@"):
            await self.hold(name)
        path = os.path.join(self.directory, "mail", name)
        with open(path + ".part", "wb") as file:
            file.write(envelope.content)
        os.rename(path + ".part", path)
        return "250 OK"

    async def hold(self, name):
        held = os.path.join(self.directory, "held", name)
        open(held, "w").close()
        try:
            while not os.path.exists(os.path.join(self.directory, "go", name)):
                await asyncio.sleep(0.005)
        finally:
            os.remove(held)


async def main(port, directory):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(directory), hostname="localhost"), "127.0.0.1", port)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
