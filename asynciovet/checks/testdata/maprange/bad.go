package maprange

import "github.com/goasyncio/asyncio"

type room map[string]*asyncio.Queue[string]

func (r room) say(line string) {
	for name, lines := range r { // want `the order of a map is random, and the body schedules by asyncio.Queue.PutNowait`
		if err := lines.PutNowait(line); err != nil {
			delete(r, name)
		}
	}
}
