// Crawler follows the links of a site, with a limited number of requests at a time, each with a
// time limit, tried again after temporary failures. The addresses seen and the pages found are in
// plain maps.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A crawler holds the settings of a crawl and its results.
type crawler struct {
	client  *http.Client
	atOnce  int           // requests at a time
	timeout time.Duration // of one attempt
	tries   int           // attempts for each page
	pause   time.Duration // before the second one; doubled each time

	slots *asyncio.Semaphore
	pages map[string]*page
}

// A page is the knowledge about one address.
type page struct {
	Status int
	Links  int
	Tries  int
	Err    error
}

const maxPage = 1 << 20

var link = regexp.MustCompile(`<a\s[^>]*href="([^"#]*)`)

// crawl follows links from start to pages of the same host and returns all pages.
func (c *crawler) crawl(ctx context.Context, start string) (map[string]*page, error) {
	u, err := url.Parse(start)
	if err != nil {
		return nil, err
	}
	c.slots = asyncio.NewSemaphore(c.atOnce)
	c.pages = make(map[string]*page)
	err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		c.visit(ctx, tg, u)
		return nil
	})
	return c.pages, err
}

// visit starts a task that visits u, if no task has.
func (c *crawler) visit(ctx context.Context, tg *asyncio.TaskGroup, u *url.URL) {
	address := u.String()
	if c.pages[address] != nil {
		return
	}
	p := new(page)
	c.pages[address] = p
	tg.CreateTask(ctx, func(ctx context.Context) error {
		body, err := c.fetch(ctx, address, p)
		if errors.Is(err, asyncio.ErrCancelled) {
			return err
		}
		p.Err = err // a page that cannot be fetched does not end the crawl
		for _, m := range link.FindAllSubmatch(body, -1) {
			if to, err := u.Parse(string(m[1])); err == nil && to.Host == u.Host && to.Scheme == u.Scheme {
				p.Links++
				c.visit(ctx, tg, to)
			}
		}
		return nil
	})
}

// errTryAgain is in the errors of attempts that may succeed another time.
var errTryAgain = errors.New("the server is not well")

// fetch tries until it succeeds, or until another try is no use.
func (c *crawler) fetch(ctx context.Context, address string, p *page) (body []byte, err error) {
	pause := c.pause
	for {
		p.Tries++
		body, err = c.attempt(ctx, address, p)
		if p.Tries == c.tries || !errors.Is(err, errTryAgain) && !errors.Is(err, asyncio.ErrTimeout) {
			return body, err
		}
		if err := asyncio.Sleep(ctx, pause); err != nil {
			return nil, err
		}
		pause *= 2
	}
}

func (c *crawler) attempt(ctx context.Context, address string, p *page) (body []byte, err error) {
	if err := c.slots.Acquire(ctx); err != nil {
		return nil, err
	}
	defer c.slots.Release()
	err = asyncio.Timeout(ctx, c.timeout, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		resp, err := c.client.Do(req) // suspends the task
		if err != nil {
			return err
		}
		body, err = asynciohttp.ReadAll(resp.Body, maxPage)
		p.Status = resp.StatusCode
		switch {
		case err != nil:
			return err
		case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
			return fmt.Errorf("%w: %s", errTryAgain, resp.Status)
		case resp.StatusCode >= 400:
			return errors.New(resp.Status)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

func main() {
	c := &crawler{client: &http.Client{Transport: &asynciohttp.Transport{}}, pause: time.Second}
	flag.IntVar(&c.atOnce, "at-once", 8, "`requests` at a time")
	flag.IntVar(&c.tries, "tries", 3, "attempts for each page")
	flag.DurationVar(&c.timeout, "timeout", 10*time.Second, "of one attempt")
	flag.Parse()
	pages, err := asyncio.Run(context.Background(), func(ctx context.Context) (map[string]*page, error) {
		return c.crawl(ctx, flag.Arg(0))
	})
	addresses := make([]string, 0, len(pages))
	for a := range pages {
		addresses = append(addresses, a)
	}
	slices.SortFunc(addresses, cmp.Compare[string])
	for _, a := range addresses {
		p := pages[a]
		fmt.Println(p.Status, a, p.Links, "links", p.Tries, "tries", cmp.Or(p.Err, errors.New("")))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
