package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// looks tell the peers apart, by colour (Okabe and Ito's, which colour-blind people can tell
// apart too) and by shape.
var looks = map[string]draw.GlyphStyle{
	library:       {Color: rgb(0x000000), Shape: draw.CircleGlyph{}},
	limit:         {Color: rgb(0x999999), Shape: draw.PlusGlyph{}},
	goroutines:    {Color: rgb(0x0072b2), Shape: draw.SquareGlyph{}},
	goroutinesAll: {Color: rgb(0x56b4e9), Shape: draw.BoxGlyph{}},
	concPeer:      {Color: rgb(0xcc79a7), Shape: draw.CrossGlyph{}},
	tokio:         {Color: rgb(0xd55e00), Shape: draw.TriangleGlyph{}},
	cpython:       {Color: rgb(0xe69f00), Shape: draw.PyramidGlyph{}},
	uvloop:        {Color: rgb(0xe69f00), Shape: draw.RingGlyph{}},
	node:          {Color: rgb(0x009e73), Shape: draw.CircleGlyph{}},
}

func rgb(v uint32) color.Color {
	return color.RGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 0xff}
}

func look(name string) draw.GlyphStyle {
	l := looks[name]
	l.Radius = vg.Points(3.2)
	return l
}

// plot draws the ratios and the curve, side by side, with one legend above them.
func (r *results) plot(file string) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont

	bars, err := r.plotRatios()
	if err != nil {
		return err
	}
	curve, err := r.plotCurve()
	if err != nil {
		return err
	}
	const width, height, legend = 960, 480, 26
	canvas := vgsvg.New(vg.Points(width), vg.Points(height))
	all := draw.New(canvas)
	all.FillPolygon(color.White, all.ClipPolygonXY([]vg.Point{
		{X: 0, Y: 0}, {X: vg.Points(width), Y: 0}, {X: vg.Points(width), Y: vg.Points(height)}, {X: 0, Y: vg.Points(height)},
	}))

	x := vg.Points(10)
	for _, name := range r.names() {
		l := plot.NewLegend()
		l.Left, l.Top = true, true
		l.TextStyle.Font.Size = vg.Points(10)
		l.ThumbnailWidth = vg.Points(12)
		l.Add(name, thumbnail{look(name)})
		l.Draw(draw.Crop(all, x, 0, vg.Points(height-legend), -vg.Points(6)))
		x += l.ThumbnailWidth + l.TextStyle.Width(name) + vg.Points(28)
	}
	below := draw.Crop(all, vg.Points(6), -vg.Points(6), vg.Points(6), -vg.Points(legend))
	bars.Draw(draw.Crop(below, 0, -vg.Points(width*0.40), 0, 0))
	curve.Draw(draw.Crop(below, vg.Points(width*0.61), -vg.Points(16), 0, 0))

	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o666)
}

type thumbnail struct{ draw.GlyphStyle }

func (t thumbnail) Thumbnail(c *draw.Canvas) { c.DrawGlyph(t.GlyphStyle, c.Center()) }

// plotRatios has a line for each row, with the ratio of each peer's time to this library's.
func (r *results) plotRatios() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "time of a peer / time of asyncio (right of 1: asyncio is faster)"
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = powersOfTen{}
	shown := r.measured()
	slices.Reverse(shown) // the first row is the uppermost
	var titles []string
	for _, l := range shown {
		titles = append(titles, l.title)
	}
	p.NominalY(titles...)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xdd}, color.Gray{0xee}
	p.Add(grid)
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(shown)) - 0.5}})
	if err != nil {
		return nil, err
	}
	one.Width = vg.Points(1)
	p.Add(one)
	for _, name := range r.names()[1:] {
		var points plotter.XYs
		for y, l := range shown {
			if v := r.time(l.row, name) / r.time(l.row, library); !math.IsNaN(v) {
				points = append(points, plotter.XY{X: v, Y: float64(y)})
			}
		}
		if err := addPoints(p, name, points, false); err != nil {
			return nil, err
		}
	}
	p.X.Min, p.X.Max = p.X.Min/1.5, p.X.Max*1.5
	return p, nil
}

func (r *results) plotCurve() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "ns for one of n tasks: created, suspended, finished"
	p.X.Label.Text = "n"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = powersOfTen{}, powersOfTen{}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xdd}, color.Gray{0xdd}
	p.Add(grid)
	for _, name := range r.names() {
		var points plotter.XYs
		for _, n := range r.ns() {
			if v := r.time(label("growth", n), name); !math.IsNaN(v) {
				points = append(points, plotter.XY{X: float64(n), Y: v})
			}
		}
		if err := addPoints(p, name, points, true); err != nil {
			return nil, err
		}
	}
	p.Y.Min, p.Y.Max = p.Y.Min/1.5, p.Y.Max*1.5
	return p, nil
}

func addPoints(p *plot.Plot, name string, points plotter.XYs, joined bool) error {
	if len(points) == 0 {
		return nil
	}
	if joined {
		l, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		l.Color = look(name).Color
		p.Add(l)
	}
	s, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	s.GlyphStyle = look(name)
	p.Add(s)
	return nil
}

// powersOfTen marks 0.1, 1, 10 and so on; with 2 and 5 between them where there are few.
type powersOfTen struct{}

func (powersOfTen) Ticks(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	few := most/least < 1000
	for e := math.Floor(math.Log10(least)); e <= math.Ceil(math.Log10(most)); e++ {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow(10, e)
			if v < least || v > most {
				continue
			}
			t := plot.Tick{Value: v}
			if m == 1 || few {
				t.Label = fmt.Sprintf("%g", v)
				if v >= 1000 {
					t.Label = grouped(v)
				}
			}
			ticks = append(ticks, t)
		}
	}
	return ticks
}
