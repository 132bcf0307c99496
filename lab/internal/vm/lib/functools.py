"""Module functools, as far as lessons use it."""


def wraps(wrapped, assigned=None, updated=None):
    def decorate(wrapper):
        return update_wrapper(wrapper, wrapped)
    return decorate


def update_wrapper(wrapper, wrapped, assigned=None, updated=None):
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        try:
            value = getattr(wrapped, name)
        except AttributeError:
            pass
        else:
            setattr(wrapper, name, value)
    for key, value in getattr(wrapped, "__dict__", {}).items():
        setattr(wrapper, key, value)
    wrapper.__wrapped__ = wrapped
    return wrapper


_missing = object()


def reduce(function, iterable, initial=_missing):
    it = iter(iterable)
    if initial is _missing:
        try:
            value = next(it)
        except StopIteration:
            raise TypeError("reduce() of empty iterable with no initial value") from None
    else:
        value = initial
    for element in it:
        value = function(value, element)
    return value


class partial:
    def __init__(self, func, *args, **keywords):
        self.func = func
        self.args = args
        self.keywords = keywords

    def __call__(self, *args, **keywords):
        return self.func(*self.args, *args, **{**self.keywords, **keywords})


def cmp_to_key(mycmp):
    class K:
        def __init__(self, obj):
            self.obj = obj

        def __lt__(self, other):
            return mycmp(self.obj, other.obj) < 0

        def __eq__(self, other):
            return mycmp(self.obj, other.obj) == 0
    return K


def lru_cache(maxsize=128, typed=False):
    if callable(maxsize):
        return _cached(maxsize, 128)
    return lambda func: _cached(func, maxsize)


def cache(func):
    return _cached(func, None)


def _cached(func, maxsize):
    results = {}

    @wraps(func)
    def wrapper(*args, **kwds):
        key = (args, tuple(kwds.items())) if kwds else args
        if key in results:
            value = results.pop(key)
            results[key] = value
            return value
        value = func(*args, **kwds)
        results[key] = value
        if maxsize is not None and len(results) > maxsize:
            del results[next(iter(results))]
        return value

    def cache_clear():
        results.clear()
    wrapper.cache_clear = cache_clear
    return wrapper


class cached_property:
    def __init__(self, func):
        self.func = func
        self.name = None

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        value = self.func(instance)
        setattr(instance, self.name, value)
        return value
