package main

import (
	"bytes"
	"errors"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/gatehouse-nats/gatehouse/bench/report"
)

var (
	colorPlain = color.RGBA{R: 0x9a, G: 0xa0, B: 0xa6, A: 0xff}
	colorOwn   = color.RGBA{R: 0x1a, G: 0x73, B: 0xe8, A: 0xff}
)

// errNothing says that what a plot shows was not measured.
var errNothing = errors.New("nothing to draw")

// find returns what came of the row, false when it was not measured.
func find(outcomes []outcome, name string) (outcome, bool) {
	for _, o := range outcomes {
		if o.name == name && o.err == nil && len(o.own()) > 0 {
			return o, true
		}
	}
	return outcome{}, false
}

// drawCPU draws the CPU of a login and of bad tokens, for both services, as SVG.
func drawCPU(outcomes []outcome) ([]byte, error) {
	var names []string
	var plain, own plotter.Values
	for _, bar := range []struct{ row, name string }{
		{"steady", "new token"}, {"seen", "seen before"}, {"signature", "bad signature"}, {"expired", "expired"}, {"kid", "unknown kid"},
	} {
		o, ok := find(outcomes, bar.row)
		if !ok {
			continue
		}
		names = append(names, bar.name)
		plain = append(plain, report.Median(report.Values(o.plain(), cpuEach)))
		own = append(own, report.Median(report.Values(o.own(), cpuEach)))
	}
	if len(names) == 0 {
		return nil, errNothing
	}
	p := newPlot("CPU of the service per login", "", "µs")
	p.Y.Min = 0
	p.NominalX(names...)
	const width = 18 * vg.Millimeter / 2
	for _, s := range []struct {
		name   string
		values plotter.Values
		color  color.Color
		offset vg.Length
	}{{"plain", plain, colorPlain, -width / 2}, {"Gatehouse", own, colorOwn, width / 2}} {
		bars, err := plotter.NewBarChart(s.values, width)
		if err != nil {
			return nil, err
		}
		bars.Color, bars.Offset, bars.LineStyle.Width = s.color, s.offset, 0
		p.Add(bars)
		p.Legend.Add(s.name, bars)
	}
	return svg(p)
}

// drawStorm draws each run of the storm of 4,000, for both services, as SVG.
func drawStorm(outcomes []outcome) ([]byte, error) {
	o, ok := find(outcomes, "storm4000")
	if !ok {
		return nil, errNothing
	}
	p := newPlot("4,000 clients at once, each run", "seconds", "% of the clients admitted")
	p.X.Min, p.Y.Min, p.Y.Max = 0, 0, 100
	p.Legend.Left, p.Legend.Top = false, false
	for _, s := range []struct {
		name    string
		results []report.Result
		color   color.Color
	}{{"plain", o.plain(), colorPlain}, {"Gatehouse", o.own(), colorOwn}} {
		for i, r := range s.results {
			drawn, err := plotter.NewLine(curve(r))
			if err != nil {
				return nil, err
			}
			drawn.Color, drawn.Width = s.color, vg.Points(1.5)
			p.Add(drawn)
			if i == 0 {
				p.Legend.Add(s.name, drawn)
			}
		}
	}
	return svg(p)
}

// curve is a run's way from nobody to the share that got in; a line to its end shows that nobody followed.
func curve(r report.Result) plotter.XYs {
	line := plotter.XYs{{X: 0, Y: 0}}
	for i, at := range r.Curve {
		line = append(line, plotter.XY{X: at, Y: float64(i + 1)})
	}
	if r.Admitted < r.Good {
		line = append(line, plotter.XY{X: r.Seconds, Y: line[len(line)-1].Y})
	}
	return line
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.BackgroundColor = color.White // pages may be dark
	p.Legend.Top = true
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)
	return p
}

func svg(p *plot.Plot) ([]byte, error) {
	w, err := p.WriterTo(18*vg.Centimeter, 10*vg.Centimeter, "svg")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = w.WriteTo(&b)
	return b.Bytes(), err
}
