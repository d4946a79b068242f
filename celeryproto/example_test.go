package celeryproto_test

import (
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

func ExampleNewTask() {
	task, err := celeryproto.NewTask("shop.charge", []any{42}, map[string]any{
		"amount": celeryproto.Decimal("12.50"),
	})
	if err != nil {
		panic(err)
	}
	task.SetQueue("celery")
	envelope, err := task.Envelope()
	if err != nil {
		panic(err)
	}
	payload, err := envelope.Payload(celeryproto.Limits{})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(payload))
	// Output: [[42], {"amount": {"__type__": "decimal", "__value__": "12.50"}}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]
}

func ExampleHasTypedMarker() {
	fromBrowser := celeryproto.Raw(`{"when": {"__type__": "datetime", "__value__": "2024-02-29"}}`)
	fmt.Println(celeryproto.HasTypedMarker(fromBrowser))
	// Output: true
}

func ExampleDecodeValue() {
	v, err := celeryproto.DecodeValue(celeryproto.Raw(`{"__type__": "date", "__value__": "2024-02-29"}`))
	fmt.Println(v, err)
	// Output: 2024-02-29 <nil>
}
