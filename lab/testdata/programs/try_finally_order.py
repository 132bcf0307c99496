def f(n):
    try:
        if n == 0:
            return "returned"
        if n == 1:
            raise ValueError(n)
        for i in range(3):
            try:
                if i == 1:
                    break
                continue
            finally:
                print("inner finally", i)
    except ValueError:
        return "handled"
    else:
        print("else")
    finally:
        print("finally", n)
    return "end"
print([f(n) for n in range(3)])
