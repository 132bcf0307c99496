"""Prints the version of CPython, and then the names that docs/python.md accounts for, one a line.

Those are the names of asyncio itself, those of its submodules that programs use, and the public
methods and attributes of its classes. A name that a class inherits is listed once, with the class
that it comes from. Methods of the event loop begin with "loop.". names.txt is the output under
CPython 3.13.0 on a Unix system.

    python3.13 names.py > names.txt
"""

import ast
import asyncio
import asyncio.staggered
import inspect
import pathlib
import platform
import textwrap


def public(names):
    return {name for name in names if not name.startswith("_")}


def attributes(cls):
    """The attributes that __init__ gives to each object."""
    if not inspect.isfunction(init := vars(cls).get("__init__")):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    return public(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)
                  and isinstance(n.ctx, ast.Store) and isinstance(n.value, ast.Name) and n.value.id == "self")


def windows_names():
    """The names that asyncio has on Windows only, from a module that can be imported only there."""
    source = pathlib.Path(asyncio.__file__).with_name("windows_events.py").read_text(encoding="utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "__all__":
            return set(ast.literal_eval(statement.value))


names = set(asyncio.__all__) | windows_names()
names |= {"subprocess." + n for n in ("DEVNULL", "PIPE", "STDOUT", "Process") if hasattr(asyncio.subprocess, n)}
names |= {"staggered." + n for n in asyncio.staggered.__all__}

# Left out: classes that only implement the methods of another one, such as the policies.
CLASSES = {
    "loop": asyncio.AbstractEventLoop,
    "Future": asyncio.futures._PyFuture,
    "Task": asyncio.tasks._PyTask,
    "subprocess.Process": asyncio.subprocess.Process,
} | {name: getattr(asyncio, name) for name in """
    Handle TimerHandle Runner Timeout TaskGroup Queue PriorityQueue LifoQueue Lock Event Condition Semaphore
    BoundedSemaphore Barrier StreamReader StreamWriter Server IncompleteReadError LimitOverrunError
    BaseTransport ReadTransport WriteTransport Transport DatagramTransport SubprocessTransport
    BaseProtocol Protocol BufferedProtocol DatagramProtocol SubprocessProtocol
    AbstractEventLoopPolicy AbstractChildWatcher
    """.split()}

for prefix, cls in CLASSES.items():
    names |= {f"{prefix}.{n}" for n in public(vars(cls)) | attributes(cls)}
names |= {"loop." + n for n in attributes(asyncio.BaseEventLoop)}

print("CPython", platform.python_version())
print(*sorted(names), sep="\n")
