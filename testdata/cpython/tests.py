"""Prints the version of CPython, and then the test methods that docs/conformance.md accounts for, one a
line: module, class, method. None of them if it was installed without its tests.

The tests are parsed, not imported. tests.list is the output under CPython 3.13.0.

    python3.13 tests.py > tests.list
"""

import ast
import pathlib
import platform
import sysconfig

# None: all classes of the module. Of the others, those that need no network.
MODULES = {
    "test_locks": None,
    "test_queues": None,
    "test_taskgroups": None,
    "test_timeouts": None,
    "test_waitfor": None,
    "test_tasks": None,
    "test_futures": None,
    "test_futures2": None,
    "test_context": None,
    "test_eager_task_factory": None,
    "test_staggered": None,
    "test_runners": None,
    "test_base_events": ["BaseEventLoopTests", "RunningLoopTests"],
    "test_events": ["HandleTests", "TimerTests"],
    "test_threads": None,
}

print("CPython", platform.python_version())
directory = pathlib.Path(sysconfig.get_path("stdlib"), "test", "test_asyncio")
for module, classes in MODULES.items():
    file = directory / f"{module}.py"
    if not file.exists():
        continue
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for cls in tree.body:
        if not isinstance(cls, ast.ClassDef) or classes is not None and cls.name not in classes:
            continue
        for method in cls.body:
            if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)) and method.name.startswith("test"):
                print(module, cls.name, method.name)
