// Package syntax reads Python: text to tokens to a tree. It knows nearly all of Python 3.13's
// grammar; what the lab cannot run is refused by the compiler, which says where it stands.
package syntax

import (
	"fmt"
	"math/big"
)

// A Pos is the place of a node: lines count from 1, columns are byte offsets from 0, and the end is
// behind the last byte.
type Pos struct{ Line, Col, EndLine, EndCol int32 }

// Span returns p itself. It is promoted to every node.
func (p Pos) Span() Pos { return p }

// An Error says that the text is not Python. It is Python's SyntaxError, or IndentationError.
type Error struct {
	Kind string
	Msg  string
	Pos  Pos
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (line %d)", e.Kind, e.Msg, e.Pos.Line) }

// An Unsupported is Python that the lab does not have.
type Unsupported struct {
	Line int
	What string
}

func (e *Unsupported) Error() string {
	return fmt.Sprintf("outside the subset: line %d: %s", e.Line, e.What)
}

// A Node is an expression, a statement or a pattern.
type Node interface{ Span() Pos }

// An Expr is an expression.
type Expr interface{ Node }

// A Stmt is a statement.
type Stmt interface{ Node }

// Expressions.
type (
	Name struct {
		Pos
		ID string
	}
	// Const is a literal: nil for None, bool, int, *big.Int, float64, string, or Ellipsis.
	Const struct {
		Pos
		Value any
	}
	Ellipsis struct{}
	// Joined is an f-string: Const strings and Formatted values.
	Joined struct {
		Pos
		Parts []Expr
	}
	// Formatted is one replacement field. Text is the source before "=", with it, or empty.
	Formatted struct {
		Pos
		X    Expr
		Text string
		Conv byte // 0, 'r', 's' or 'a'
		Spec Expr // nil, or a *Joined
	}
	Binary struct {
		Pos
		Op   string
		L, R Expr
	}
	// Bool is "and" or "or" of two or more.
	Bool struct {
		Pos
		Op string
		Xs []Expr
	}
	Unary struct {
		Pos
		Op string
		X  Expr
	}
	// Compare is a chain; Ops has one operator for each of Rs.
	Compare struct {
		Pos
		L   Expr
		Ops []string
		Rs  []Expr
	}
	Call struct {
		Pos
		Fn   Expr
		Args []Arg
	}
	// Arg is one argument of a call: Stars is 1 for *x and 2 for **x.
	Arg struct {
		Name  string
		Stars int
		X     Expr
	}
	Attribute struct {
		Pos
		X    Expr
		Name string
	}
	Subscript struct {
		Pos
		X, Index Expr
	}
	Slice struct {
		Pos
		Lo, Hi, Step Expr
	}
	// Display is a list, tuple or set: Kind is '[', '(' or '{'.
	Display struct {
		Pos
		Kind byte
		Xs   []Expr
	}
	// Dict has a nil key where it has **value.
	Dict struct {
		Pos
		Keys, Values []Expr
	}
	// Comp is a comprehension: Kind is '[', '{', ':' for a dict, or '(' for a generator expression.
	Comp struct {
		Pos
		Kind     byte
		Key, Elt Expr
		Gens     []CompFor
	}
	CompFor struct {
		Target, Iter Expr
		Ifs          []Expr
		Async        bool
	}
	Lambda struct {
		Pos
		Params *Params
		Body   Expr
	}
	IfExp struct {
		Pos
		Cond, Then, Else Expr
	}
	Await struct {
		Pos
		X Expr
	}
	Yield struct {
		Pos
		X    Expr // nil without a value
		From bool
	}
	Starred struct {
		Pos
		X Expr
	}
	// Walrus is target := x.
	Walrus struct {
		Pos
		Target *Name
		X      Expr
	}
)

// Params are the parameters of a function.
type Params struct {
	List   []Param // positional ones and then those after the star
	PosOnl int     // how many of List are positional-only
	NPos   int     // how many of List are positional
	Star   string  // the name after *, empty if there is none
	Kw     string  // the name after **
}

// A Param is one parameter.
type Param struct {
	Name    string
	Default Expr // nil if there is none
	Note    Expr // its annotation, nil if there is none
}

// Statements.
type (
	ExprStmt struct {
		Pos
		X Expr
	}
	Assign struct {
		Pos
		Targets []Expr
		Value   Expr
	}
	AugAssign struct {
		Pos
		Target Expr
		Op     string
		Value  Expr
	}
	AnnAssign struct {
		Pos
		Target, Note, Value Expr
	}
	Return struct {
		Pos
		X Expr
	}
	Raise struct {
		Pos
		X, Cause Expr
	}
	If struct {
		Pos
		Cond       Expr
		Then, Else []Stmt
	}
	While struct {
		Pos
		Cond       Expr
		Body, Else []Stmt
	}
	For struct {
		Pos
		Target, Iter Expr
		Body, Else   []Stmt
		Async        bool
	}
	Try struct {
		Pos
		Body, Else, Finally []Stmt
		Handlers            []Handler
		Star                bool
	}
	With struct {
		Pos
		Items []WithItem
		Body  []Stmt
		Async bool
	}
	FuncDef struct {
		Pos
		Name       string
		Params     *Params
		Body       []Stmt
		Decorators []Expr
		Returns    Expr
		Async      bool
	}
	ClassDef struct {
		Pos
		Name       string
		Bases      []Arg
		Body       []Stmt
		Decorators []Expr
	}
	Import struct {
		Pos
		Names []Alias
	}
	ImportFrom struct {
		Pos
		Module string
		Names  []Alias
	}
	Global struct {
		Pos
		Names    []string
		Nonlocal bool
	}
	Pass     struct{ Pos }
	Break    struct{ Pos }
	Continue struct{ Pos }
	Assert   struct {
		Pos
		X, Msg Expr
	}
	Del struct {
		Pos
		Targets []Expr
	}
	Match struct {
		Pos
		X     Expr
		Cases []MatchCase
	}
)

// Parts of statements.
type (
	Handler struct {
		Pos
		Type Expr
		Name string
		Body []Stmt
	}
	WithItem struct {
		X, Target Expr
	}
	Alias struct {
		Pos
		Name, As string
	}
	MatchCase struct {
		Pat   Node
		Guard Expr
		Body  []Stmt
	}
)

// Patterns.
type (
	// PatValue matches by ==, or by identity if X is None, True or False.
	PatValue struct {
		Pos
		X Expr
	}
	// PatCapture binds Name, which is empty for _; Sub is what stands before "as", or nil.
	PatCapture struct {
		Pos
		Sub  Node
		Name string
	}
	PatOr struct {
		Pos
		Subs []Node
	}
	// PatSequence has a PatStar at most once.
	PatSequence struct {
		Pos
		Subs []Node
	}
	PatStar struct {
		Pos
		Name string
	}
	PatMapping struct {
		Pos
		Keys []Expr
		Subs []Node
		Rest string
	}
	PatClass struct {
		Pos
		Class Expr
		Subs  []Node
		Names []string // of the last of Subs
	}
)

// Int makes the value of an integer literal.
func Int(b *big.Int) any {
	if b.IsInt64() {
		return int(b.Int64())
	}
	return b
}
