"""The rows about servers of HTTP, as a program that uses uvicorn with uvloop and httptools. The lines it prints are those of
internal/peer."""

import gc
import platform
import socket
import sys

import uvicorn


def application(size):
    body = b"x" * size
    head = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain"), (b"content-length", str(size).encode())],
    }
    rest = {"type": "http.response.body", "body": body}

    async def app(scope, receive, send):
        if scope["path"] == "/collect":
            gc.collect()
        await send(head)
        await send(rest)

    return app


def serve(size):
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        application(size),
        loop="uvloop",
        http="httptools",
        interface="asgi3",
        lifespan="off",
        access_log=False,
        log_level="error",
        timeout_keep_alive=60,
    )
    uvicorn.Server(config).run(sockets=[listener])


def main(args):
    if args == ["version"]:
        print(f"uvicorn {uvicorn.__version__}, {platform.python_implementation()} {platform.python_version()}")
    elif args == ["rows"]:
        pass
    else:
        command, kind, size = args
        assert (command, kind) == ("serve", "http1"), "usage: version | rows | serve http1 SIZE"
        serve(int(size))


if __name__ == "__main__":
    main(sys.argv[1:])
