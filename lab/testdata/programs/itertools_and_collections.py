import itertools
from collections import defaultdict, Counter, deque, OrderedDict, namedtuple
print(list(itertools.islice(itertools.count(5, 2), 4)), list(itertools.chain([1], (2, 3))))
print([list(g) for k, g in itertools.groupby([1, 1, 2, 3, 3])], list(itertools.accumulate([1, 2, 3])))
d = defaultdict(list)
for w in "the loop runs the task".split():
    d[len(w)].append(w)
print(dict(d), Counter("banana").most_common(2), Counter("aab"))
q = deque([1, 2, 3], maxlen=3)
q.append(4)
q.appendleft(0)
print(q, q.popleft(), len(q))
P = namedtuple("P", "x y")
p = P(1, y=2)
print(p, p.x + p.y, p == (1, 2), *p)
x, *rest, last = range(6)
print(x, rest, last, list(zip("ab", [1, 2])), dict(enumerate("xy")), sum([0.1] * 10), max("abc", key=ord))
