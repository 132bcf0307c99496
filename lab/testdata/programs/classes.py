class Base:
    count = 0
    def __init__(self, name):
        self.name = name
        Base.count += 1
    @property
    def title(self):
        return self.name.title()
    @title.setter
    def title(self, v):
        self.name = v.lower()
    @classmethod
    def make(cls, n):
        return cls(n)
    @staticmethod
    def helper(x):
        return x + 1
    def __repr__(self):
        return f"{type(self).__name__}({self.name!r})"
    def __eq__(self, o):
        return isinstance(o, Base) and self.name == o.name
    def __hash__(self):
        return hash(self.name)
    def __lt__(self, o):
        return self.name < o.name
class Child(Base):
    def __init__(self, name, extra=None):
        super().__init__(name)
        self.extra = extra
    def __len__(self):
        return len(self.name)
    def __getitem__(self, i):
        return self.name[i]
    def __call__(self, *a, **k):
        return a, k
    def __contains__(self, x):
        return x in self.name
c = Child.make("bob")
c.title = "ALICE"
print(c, c.title, len(c), c[0], c[1:3], c(1, x=2), "li" in c, Base.count, Base.helper(1))
print(sorted([Child("b"), Child("a")]), Child("a") == Base("a"), len({Child("a"), Child("a")}))
print(isinstance(c, Base), issubclass(Child, Base), Child.__mro__[1].__name__, hasattr(c, "nope"), getattr(c, "nope", 1))
