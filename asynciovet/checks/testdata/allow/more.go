package allow

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

//asynciovet:allow // want `say what is allowed, and why`

//asynciovet:allowed is another word

func more(ctx context.Context) error {
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	_ = 1 //asynciovet:allow blocking it stands behind another line // want `blocking reports nothing here`
	time.Sleep(1)
	//asynciovet:allow blocking there is a line between // want `blocking reports nothing here`

	time.Sleep(1)
	//asynciovet:allow droppederror it is for another check // want `droppederror reports nothing here`
	time.Sleep(1)
	helper()
	return nil
}

// What is allowed in a function is no fault of its callers.
func helper() {
	time.Sleep(1) //asynciovet:allow blocking it is a nanosecond
}
