def countdown(n):
    print("begin")
    try:
        while n:
            got = yield n
            if got:
                print("got", got)
            n -= 1
    finally:
        print("closed")
    return "result"
g = countdown(3)
print(next(g), g.send("hello"))
g.close()
try:
    next(g)
except StopIteration as e:
    print("stop", e.value)
def outer():
    r = yield from countdown(1)
    print("inner returned", r)
print(list(outer()))
for x in countdown(5):
    print(x)
    break
print("after break")
