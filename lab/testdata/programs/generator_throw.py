def gen():
    while True:
        try:
            x = yield
            print("x", x)
        except ValueError as e:
            print("caught", e)
            yield "recovered"
g = gen()
next(g)
g.send(1)
print(g.throw(ValueError("inside")))
try:
    g.throw(KeyError("out"))
except KeyError as e:
    print("escaped", e)
