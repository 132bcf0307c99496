def what(x):
    match x:
        case 0 | 1:
            return "small"
        case int(n) if n > 100:
            return f"big {n}"
        case [a, b, *rest]:
            return f"list {a} {b} {rest}"
        case {"kind": "job", "id": i}:
            return f"job {i}"
        case str() as s:
            return "text " + s
        case None:
            return "none"
        case _:
            return "other"
for x in (0, 500, [1, 2, 3, 4], {"kind": "job", "id": 7}, "abc", None, 3.5):
    print(what(x))
