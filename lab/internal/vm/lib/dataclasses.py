"""Module dataclasses, as far as lessons use it."""


class _Missing:
    pass


MISSING = _Missing()


class Field:
    def __init__(self, default, default_factory, init, repr, compare, kw_only):
        self.name = None
        self.default = default
        self.default_factory = default_factory
        self.init = init
        self.repr = repr
        self.compare = compare
        self.kw_only = kw_only


def field(*, default=MISSING, default_factory=MISSING, init=True, repr=True, compare=True, kw_only=False):
    return Field(default, default_factory, init, repr, compare, kw_only)


def dataclass(cls=None, *, init=True, repr=True, eq=True, order=False, frozen=False, slots=False, kw_only=False, unsafe_hash=False):
    def wrap(cls):
        return _process(cls, init, repr, eq, order, frozen, kw_only)
    return wrap if cls is None else wrap(cls)


def _process(cls, init, repr_, eq, order, frozen, kw_only):
    found = {}
    for base in cls.__mro__[::-1][1:]:
        if base is cls:
            continue
        for f in base.__dict__.get("__dataclass_fields__", {}).values():
            found[f.name] = f
    for name, kind in cls.__dict__.get("__annotations__", {}).items():
        if kind == "ClassVar":
            continue
        default = cls.__dict__.get(name, MISSING)
        f = default if isinstance(default, Field) else field(default=default)
        if isinstance(f.default, (list, dict, set)):
            raise ValueError(f"mutable default {type(f.default)} for field {name} is not allowed: use default_factory")
        f.name = name
        if f.default is not MISSING:
            setattr(cls, name, f.default)
        elif default is not MISSING:
            delattr(cls, name)
        f.kw_only = f.kw_only or kw_only
        found[name] = f
    cls.__dataclass_fields__ = found
    names = [f.name for f in found.values() if f.init and not f.kw_only]
    all_names = [f.name for f in found.values() if f.init]
    seen_default = False
    for n in names:
        f = found[n]
        if f.default is not MISSING or f.default_factory is not MISSING:
            seen_default = True
        elif seen_default:
            raise TypeError(f"non-default argument {n!r} follows default argument")

    def __init__(self, *args, **kwds):
        if len(args) > len(names):
            least = sum(1 for n in names if found[n].default is MISSING and found[n].default_factory is MISSING)
            takes = f"{len(names) + 1}" if least == len(names) else f"from {least + 1} to {len(names) + 1}"
            raise TypeError(f"{cls.__qualname__}.__init__() takes {takes} positional arguments but {len(args) + 1} were given")
        given = dict(zip(names, args))
        for k, v in kwds.items():
            if k not in all_names:
                raise TypeError(f"{cls.__qualname__}.__init__() got an unexpected keyword argument '{k}'")
            if k in given:
                raise TypeError(f"{cls.__qualname__}.__init__() got multiple values for argument '{k}'")
            given[k] = v
        missing = []
        for f in found.values():
            if f.name in given:
                value = given[f.name]
            elif f.default is not MISSING:
                value = f.default
            elif f.default_factory is not MISSING:
                value = f.default_factory()
            else:
                if f.init:
                    missing.append(f"'{f.name}'")
                continue
            object.__setattr__(self, f.name, value)
        if missing:
            s = "s" if len(missing) > 1 else ""
            text = missing[0]
            if len(missing) == 2:
                text = " and ".join(missing)
            elif len(missing) > 2:
                text = ", ".join(missing[:-1]) + ", and " + missing[-1]
            raise TypeError(f"{cls.__qualname__}.__init__() missing {len(missing)} required positional argument{s}: {text}")
        post = getattr(self, "__post_init__", None)
        if post is not None:
            post()

    def __repr__(self):
        inside = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in found.values() if f.repr)
        return f"{type(self).__qualname__}({inside})"

    def values(self):
        return tuple(getattr(self, f.name) for f in found.values() if f.compare)

    def __eq__(self, other):
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    def compare(op):
        def method(self, other):
            if other.__class__ is self.__class__:
                return op(values(self), values(other))
            return NotImplemented
        return method

    def __setattr__(self, name, value):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    if init and "__init__" not in cls.__dict__:
        cls.__init__ = __init__
    if repr_ and "__repr__" not in cls.__dict__:
        cls.__repr__ = __repr__
    if eq and "__eq__" not in cls.__dict__:
        cls.__eq__ = __eq__
        if frozen:
            cls.__hash__ = lambda self: hash(values(self))
        elif "__hash__" not in cls.__dict__:
            cls.__hash__ = None
    if order:
        cls.__lt__ = compare(lambda a, b: a < b)
        cls.__le__ = compare(lambda a, b: a <= b)
        cls.__gt__ = compare(lambda a, b: a > b)
        cls.__ge__ = compare(lambda a, b: a >= b)
    if frozen:
        cls.__setattr__ = __setattr__
    cls.__match_args__ = tuple(names)
    return cls


class FrozenInstanceError(AttributeError):
    pass


def fields(thing):
    return tuple(thing.__dataclass_fields__.values())


def asdict(obj):
    if hasattr(type(obj), "__dataclass_fields__"):
        return {f.name: asdict(getattr(obj, f.name)) for f in fields(obj)}
    if isinstance(obj, list):
        return [asdict(x) for x in obj]
    if isinstance(obj, dict):
        return {k: asdict(v) for k, v in obj.items()}
    return obj


def replace(obj, **changes):
    values = {f.name: getattr(obj, f.name) for f in fields(obj) if f.init}
    return type(obj)(**{**values, **changes})
