package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// topology covers exchanges of all types, bindings between them, and what queues are declared with.
func topology(s *scene) {
	connection := s.connect()
	channel := open(connection)
	bindings := map[string]amqp.Table{"direct": nil, "topic": nil, "fanout": nil, "headers": {"x-match": "all", "type": "report"}}
	keys := map[string]string{"direct": "key", "topic": "a.*.#"}
	exchanges, queues := map[string]string{}, map[string]string{}
	for kind, arguments := range bindings {
		exchanges[kind], queues[kind] = s.exchange(kind), s.queue(kind)
		check(channel.ExchangeDeclare(exchanges[kind], kind, true, false, false, false, nil))
		check(channel.ExchangeDeclarePassive(exchanges[kind], kind, true, false, false, false, nil))
		declare(channel, queues[kind], nil)
		check(channel.QueueBind(queues[kind], keys[kind], exchanges[kind], false, arguments))
	}
	for _, key := range []string{"key", "other"} {
		publish(channel, exchanges["direct"], key, text(key))
	}
	for _, key := range []string{"a.b", "a.b.c.d", "a", "b.a"} {
		publish(channel, exchanges["topic"], key, text(key))
	}
	publish(channel, exchanges["fanout"], "any", text("to all"))
	for _, kind := range []string{"report", "note"} {
		publish(channel, exchanges["headers"], "", amqp.Publishing{Headers: amqp.Table{"type": kind}, Body: []byte(kind)})
	}
	for kind, expected := range map[string]string{"direct": "key", "topic": "a.b a.b.c.d", "fanout": "to all", "headers": "report"} {
		equal(bodies(drain(channel, queues[kind])), expected, kind)
	}

	check(channel.ExchangeBind(exchanges["fanout"], "both", exchanges["direct"], false, nil))
	publish(channel, exchanges["direct"], "both", text("through two"))
	equal(bodies(drain(channel, queues["fanout"])), "through two", "an exchange bound to an exchange")
	check(channel.ExchangeUnbind(exchanges["fanout"], "both", exchanges["direct"], false, nil))
	check(channel.QueueUnbind(queues["direct"], "key", exchanges["direct"], nil))
	publish(channel, exchanges["direct"], "both", text("lost"))
	publish(channel, exchanges["direct"], "key", text("lost"))
	equal(len(drain(channel, queues["fanout"]))+len(drain(channel, queues["direct"])), 0, "without the bindings")

	named := must(channel.QueueDeclare("", false, true, true, false, nil))
	equal(strings.HasPrefix(named.Name, "amq.gen-"), true, named.Name)
	for kind, version := range map[string]amqp.Table{
		"lazy":   {amqp.QueueTypeArg: amqp.QueueTypeClassic, "x-queue-mode": "lazy"},
		"quorum": {amqp.QueueTypeArg: amqp.QueueTypeQuorum, "x-delivery-limit": int32(5)},
		"limits": {amqp.QueueMaxLenArg: int32(3), amqp.QueueOverflowArg: amqp.QueueOverflowDropHead, amqp.QueueMessageTTLArg: int32(60_000),
			amqp.QueueTTLArg: int32(60_000), amqp.QueueMaxLenBytesArg: int64(1000)},
	} {
		queue := s.queue(kind)
		declare(channel, queue, version)
		for number := range 4 {
			publish(channel, "", queue, text(fmt.Sprint(number)))
		}
		expected := map[string]int{"lazy": 4, "quorum": 4, "limits": 3}[kind]
		waitForReady(channel, queue, expected)
		equal(must(channel.QueuePurge(queue, false)), expected, "purged")
		equal(must(channel.QueueDelete(queue, kind != "quorum", kind != "quorum", false)), 0, "deleted") // Those have no conditions.
	}

	// Without waiting for replies.
	quiet := s.queue("quiet")
	must(channel.QueueDeclare(quiet, true, false, false, true, nil))
	check(channel.QueueBind(quiet, "quiet", exchanges["direct"], true, nil))
	publish(channel, exchanges["direct"], "quiet", text("heard"))
	waitForReady(channel, quiet, 1)

	_, err := open(connection).QueueDeclarePassive(s.queue("missing"), false, false, false, false, nil)
	refused(err, 404, "NOT_FOUND - no queue")
	_, err = open(connection).QueueDeclare(quiet, false, false, false, false, nil)
	refused(err, 406, "PRECONDITION_FAILED - inequivalent arg 'durable'")
	_, err = open(connection).QueueDelete(quiet, false, true, false)
	refused(err, 406, "not empty")
	refused(open(connection).ExchangeDeclare(exchanges["direct"], "fanout", true, false, false, false, nil), 406, "inequivalent arg 'type'")
	refused(open(connection).ExchangeDelete(exchanges["topic"], true, false), 406, "in use")
	check(connection.Close())
}

// publishing covers confirms in all the forms that the client has, returns, refusals and transactions.
func publishing(s *scene) {
	connection := s.connect()
	channel := open(connection)
	check(channel.Confirm(false))
	queue := s.queue("confirms")
	declare(channel, queue, nil)
	background := context.Background()

	const count = 1000
	var deferred []*amqp.DeferredConfirmation
	for number := range count {
		equal(channel.GetNextPublishSeqNo(), uint64(number+1), "the next number")
		message := amqp.Publishing{Body: []byte(fmt.Sprint(number)), DeliveryMode: amqp.Persistent}
		deferred = append(deferred, must(channel.PublishWithDeferredConfirmWithContext(background, "", queue, false, false, message)))
	}
	for _, confirmation := range deferred {
		equal(must(confirmation.WaitContext(background)), true, "confirmed")
	}
	equal(must(channel.QueueDeclarePassive(queue, true, false, false, false, nil)).Messages, count, "what is confirmed is in the queue")

	returns := channel.NotifyReturn(make(chan amqp.Return, 10))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 10))
	exchange := s.exchange("returns")
	check(channel.ExchangeDeclare(exchange, "direct", true, false, false, false, nil))
	lost := amqp.Publishing{Body: []byte("lost"), MessageId: "r-1", Headers: amqp.Table{"reason": "test"}}
	check(channel.PublishWithContext(background, exchange, "unknown", true, false, lost))
	returned := next(returns)
	equal(words(returned.ReplyCode, returned.ReplyText, returned.Exchange == exchange, returned.RoutingKey, returned.MessageId,
		returned.Headers["reason"], string(returned.Body)), "312 NO_ROUTE true unknown r-1 test lost", "the return")
	equal(next(confirms), amqp.Confirmation{DeliveryTag: count + 1, Ack: true}, "confirmed after the return")

	full := s.queue("full")
	declare(channel, full, amqp.Table{amqp.QueueMaxLenArg: int32(1), amqp.QueueOverflowArg: amqp.QueueOverflowRejectPublish})
	publish(channel, "", full, text("1"))
	publish(channel, "", full, text("2"))
	equal([]bool{next(confirms).Ack, next(confirms).Ack}, []bool{true, false}, "the full queue refuses")

	refused(func() error {
		other := open(connection)
		closed := other.NotifyClose(make(chan *amqp.Error, 1))
		publish(other, s.exchange("missing"), "", text("x"))
		return next(closed)
	}(), 404, "NOT_FOUND - no exchange")

	inTransaction := open(connection)
	check(inTransaction.Tx())
	transactions := s.queue("transactions")
	declare(channel, transactions, nil)
	publish(inTransaction, "", transactions, text("rolled back"))
	check(inTransaction.TxRollback())
	publish(inTransaction, "", transactions, text("committed"))
	waitForReady(channel, transactions, 0)
	check(inTransaction.TxCommit())
	equal(bodies(drain(channel, transactions)), "committed", "after the commit")
	check(connection.Close())
}

// contents covers bodies of all sizes, headers of all types and all properties.
func contents(s *scene) {
	connection := s.connect()
	channel := open(connection)
	queue := s.queue("contents")
	declare(channel, queue, nil)
	frame := connection.Config.FrameSize - 8
	for _, size := range []int{0, 1, frame - 1, frame, frame + 1, 1 << 20, must(strconv.Atoi(withDefault("COMPAT_LARGE_BYTES", "67108864")))} {
		body := make([]byte, size)
		must(rand.Read(body))
		publish(channel, "", queue, amqp.Publishing{Body: body, DeliveryMode: amqp.Persistent})
		var got []amqp.Delivery
		waitUntil("the message", func() bool { got = drain(channel, queue); return len(got) == 1 })
		equal(bytes.Equal(got[0].Body, body), true, words(size, "octets come out as they went in"))
	}

	headers := amqp.Table{
		"string": "Häsin 兎", "empty": "", "long": strings.Repeat("x", 10_000), "true": true, "false": false,
		"byte": byte(255), "int8": int8(-128), "int16": int16(math.MinInt16), "uint16": uint16(math.MaxUint16),
		"int32": int32(math.MinInt32), "uint32": uint32(math.MaxUint32), "int64": int64(math.MinInt64),
		"float": float32(0.5), "double": 0.1, "decimal": amqp.Decimal{Scale: 2, Value: 12345},
		"time": time.Unix(1_700_000_000, 0), "bytes": []byte{0xff, 0xce, 0}, "void": nil,
		"list":  []any{"a", int32(1), true, nil, []any{int64(2), []any{"3"}}, amqp.Table{"deep": "er"}},
		"table": amqp.Table{"a": amqp.Table{"b": amqp.Table{"c": int32(1)}}}, "empty table": amqp.Table{},
	}
	everything := amqp.Publishing{
		Headers: headers, ContentType: "application/json", ContentEncoding: "identity", DeliveryMode: amqp.Persistent, Priority: 7,
		CorrelationId: "correlation", ReplyTo: "answers", Expiration: "600000", MessageId: "message", Timestamp: time.Unix(1_700_000_000, 0),
		Type: "order.created", UserId: must(amqp.ParseURI(s.url)).Username, AppId: "compat", Body: []byte("body"),
	}
	publish(channel, "", queue, everything)
	for _, got := range drain(channel, queue) {
		for name, expected := range headers {
			equal(got.Headers[name], expected, name)
		}
		equal(len(got.Headers), len(headers), "headers")
		equal(amqp.Publishing{
			Headers: headers, ContentType: got.ContentType, ContentEncoding: got.ContentEncoding, DeliveryMode: got.DeliveryMode,
			Priority: got.Priority, CorrelationId: got.CorrelationId, ReplyTo: got.ReplyTo, Expiration: got.Expiration, MessageId: got.MessageId,
			Timestamp: got.Timestamp, Type: got.Type, UserId: got.UserId, AppId: got.AppId, Body: got.Body,
		}, everything, "properties")
	}
	check(connection.Close())
}

// deadLetter covers rejected and expired messages, those pushed out of a full queue, and priorities.
func deadLetter(s *scene) {
	connection := s.connect()
	channel := open(connection)
	exchange, dead := s.exchange("dead"), s.queue("dead")
	check(channel.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil))
	declare(channel, dead, nil)
	check(channel.QueueBind(dead, "", exchange, false, nil))
	letters := consume(channel, dead)
	died := func(body, queue, reason string) {
		letter := next(letters)
		death := letter.Headers["x-death"].([]any)[0].(amqp.Table)
		equal(words(string(letter.Body), death["queue"], death["reason"], death["count"], letter.RoutingKey),
			words(body, queue, reason, 1, "died"), "the dead letter")
		check(letter.Ack(false))
	}
	arguments := func(more amqp.Table) amqp.Table {
		more["x-dead-letter-exchange"], more["x-dead-letter-routing-key"] = exchange, "died"
		return more
	}
	work, short, small := s.queue("work"), s.queue("short"), s.queue("small")
	declare(channel, work, arguments(amqp.Table{}))
	declare(channel, short, arguments(amqp.Table{amqp.QueueMessageTTLArg: int32(100)}))
	declare(channel, small, arguments(amqp.Table{amqp.QueueMaxLenArg: int32(1)}))
	publish(channel, "", short, text("by the queue"))
	died("by the queue", short, "expired")
	publish(channel, "", work, amqp.Publishing{Body: []byte("by itself"), Expiration: "100"})
	died("by itself", work, "expired")
	publish(channel, "", small, text("pushed out"))
	publish(channel, "", small, text("stays"))
	died("pushed out", small, "maxlen")
	publish(channel, "", work, text("rejected"))
	check(next(consume(channel, work)).Reject(false))
	died("rejected", work, "rejected")

	ordered := s.queue("ordered")
	declare(channel, ordered, amqp.Table{"x-max-priority": int32(5)})
	for number, priority := range []uint8{0, 5, 2, 5, 1} {
		publish(channel, "", ordered, amqp.Publishing{Body: []byte(fmt.Sprint(number)), Priority: priority})
	}
	waitForReady(channel, ordered, 5)
	equal(bodies(drain(channel, ordered)), "1 3 2 4 0", "by priority")
	check(connection.Close())
}
