name, n, f = "loop", 42, 3.14159
print(f"{name!r:>10}|{n:05d}|{f:.2f}|{n:,}|{n:x}|{f:10.3e}|{n=}|{f = :.1f}")
print(f"{name:^10}|{name:*<8}|{1234567.891:,.2f}|{0.5:%}|{True}|{None}")
print("%s %d %5.2f %r" % ("a", 3, 2.5, "q"), "{} {1} {x}".format(1, 2, x=3) if False else "{0} {1} {x}".format(1, 2, x=3))
print(1e16, 1e-5, 0.1 + 0.2, 100.0, 1 / 3, float("inf"), -0.0, 1e100, 123456789.123)
print(2 ** 100, -7 // 2, -7 % 3, 7 / 2, 10 ** 20 % 97, 1_000)
print(f"{'nested ' + f'{n + 1}'}", f"{{literal}}", f"{[x * 2 for x in range(3)]}")
print([1, "a", (2,), {"k": {1, 2}}, None, 1.0], {}, set(), (), "it's", 'say "hi"', "tab\t")
