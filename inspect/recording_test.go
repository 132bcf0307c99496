package inspect_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/inspect"
)

// The page serves a recording, in which the tasks that were there before have their names.
func TestHandler_Recording(t *testing.T) {
	const name = "</script> 任务 \"a\""
	served(t, name, func(ctx context.Context, url string) error {
		if _, err := inspect.Record(ctx); !errors.Is(err, inspect.ErrNotRecorded) {
			t.Errorf("without a recorder: %v", err)
		}
		if r, err := get(ctx, url+"recording"); err != nil || r.StatusCode != http.StatusNotFound {
			t.Errorf("without a recorder: %v, %v", r, err)
		} else {
			_ = r.Body.Close()
		}
		inspect.SetRecording(1 << 17)
		defer inspect.SetRecording(0)
		var file []byte
		for _, format := range []string{"", "?format=file"} {
			r, err := get(ctx, url+"recording"+format)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil || r.StatusCode != http.StatusOK {
				t.Errorf("%q: %s, %v", format, r.Status, err)
			}
			if format == "" && (!bytes.Contains(body, []byte("任务")) || bytes.Contains(body, []byte("</script> 任务"))) {
				t.Errorf("the page does not have the task, or as it is")
			}
			file = body
		}
		read, err := inspect.ReadRecording(bytes.NewReader(file))
		if err != nil {
			return err
		}
		var again bytes.Buffer
		if err := read.Write(&again); err != nil || !bytes.Equal(again.Bytes(), file) {
			t.Errorf("written again: %v", err)
		}
		return nil
	})
}

// What asyncio writes, this package reads.
func TestReadRecording(t *testing.T) {
	var file, page bytes.Buffer
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		return l.WriteRecording(&file)
	}), asyncio.FlightRecorder(1))
	if err != nil {
		t.Fatal(err)
	}
	r, err := inspect.ReadRecording(&file)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.WriteHTML(&page); err != nil || !strings.Contains(page.String(), "Task-1") {
		t.Errorf("the page: %v", err)
	}
	if _, err := inspect.ReadRecording(strings.NewReader("asyncrec")); !errors.Is(err, inspect.ErrRecordingFormat) {
		t.Errorf("of half a file: %v", err)
	}
}
