try:
    raise ExceptionGroup("eg", [ValueError(1), TypeError(2), ExceptionGroup("inner", [ValueError(3), OSError(4)])])
except* ValueError as e:
    print("V", e.exceptions, e)
except* OSError as e:
    print("O", e.exceptions)
except* TypeError:
    print("T")
try:
    try:
        raise ExceptionGroup("a", [ValueError(1), KeyError(2)])
    except* ValueError:
        print("handled one")
except ExceptionGroup as g:
    print("rest", g.exceptions)
g = ExceptionGroup("x", [ValueError(1), KeyError(2)])
print(g.split(ValueError))
print(g.subgroup(lambda e: isinstance(e, KeyError)))
try:
    try:
        raise ValueError("naked")
    except* ValueError as e:
        print(repr(e))
        raise
except BaseException as e:
    print(repr(e))
