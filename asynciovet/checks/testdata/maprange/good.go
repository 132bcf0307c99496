package maprange

import (
	"maps"
	"slices"
)

func (r room) sayInOrder(line string) {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if err := r[name].PutNowait(line); err != nil {
			delete(r, name)
		}
	}
}
