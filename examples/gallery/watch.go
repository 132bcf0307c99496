package gallery

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A controller keeps a copy of an object: it reads the object, and then watches for changes, one
// request for each. The mistake is to watch from now on. A change that happens after the read and
// before the watch, or between two watches, is never seen. A watch from the version that the
// controller has cannot miss one.
//
// Kubernetes gives each list a version to watch from for that reason, and controllers that watch
// from elsewhere miss events: Sun et al., "Automatic Reliability Testing for Cluster Management
// Controllers" (OSDI 2022),
// https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
type controller struct {
	mistake bool
	version int
	seen    func(version int)
}

func (c *controller) run(ctx context.Context) error {
	request := "read"
	for {
		answer, err := callFor(ctx, 5*time.Second, "apiserver", request)
		if isOneOf(err, errNoAnswer) {
			if err := asyncio.Sleep(ctx, think); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		c.version, _ = strconv.Atoi(answer)
		c.seen(c.version)
		request = "watch " + answer
		if c.mistake {
			request = "watch" // BUG: from now on, and now is later than the answer
		}
	}
}

// apiserver keeps the version of an object, and tells those that watch when it changes.
func apiserver(ctx context.Context) error {
	text, err := load(ctx, "version")
	if err != nil {
		return err
	}
	version, _ := strconv.Atoi(text)
	changed := asyncio.NewCondition(nil)
	return serve(ctx, func(ctx context.Context, request string) (string, error) {
		if err := changed.Acquire(ctx); err != nil {
			return "", err
		}
		defer changed.Release()
		if from, watch := strings.CutPrefix(request, "watch"); watch {
			known, err := strconv.Atoi(strings.TrimSpace(from))
			if err != nil {
				known = version // from now on
			}
			err = changed.WaitFor(ctx, func() bool { return version > known })
			return strconv.Itoa(version), err
		}
		if next, _ := strconv.Atoi(request); next > version {
			if err := save(ctx, "version", request); err != nil {
				return "", err
			}
			version = next
			changed.NotifyAll()
		}
		return strconv.Itoa(version), nil
	})
}

// watchFromNow is an API server, a controller, and a client that changes the object. In the end the
// controller must have seen the last change.
func watchFromNow(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		changed, seen := 0, 0
		s.server("apiserver", apiserver)
		s.server("controller", func(ctx context.Context) error {
			c := &controller{mistake: mistake, seen: func(version int) { seen = version }}
			return c.run(ctx)
		})
		s.after = func(context.Context) error {
			if seen < changed {
				return fmt.Errorf("the object has version %d, and the controller has %d", changed, seen)
			}
			return nil
		}
		for range 6 {
			if err := asyncio.Sleep(ctx, 3*think); err != nil {
				return err
			}
			if _, err := persist(ctx, "apiserver", strconv.Itoa(changed+1)); err != nil {
				return err
			}
			changed++
		}
		return nil
	})
}
