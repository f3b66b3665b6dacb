# frozen_string_literal: true

# Topology, confirms and returns, bodies and headers of all sorts, dead letters, time to live, priorities, transactions.

require_relative "support"

def topology(connection)
  channel = connection.create_channel
  bindings = { "direct" => ["key", {}], "topic" => ["a.*.#", {}], "fanout" => ["", {}], "headers" => ["", { "x-match" => "all", "type" => "report" }] }
  exchanges = bindings.keys.to_h { |kind| [kind, channel.exchange(unique_exchange(kind), type: kind, durable: true)] }
  queues = bindings.to_h do |kind, (key, arguments)|
    [kind, channel.queue(unique_queue(kind), durable: true).bind(exchanges[kind], routing_key: key, arguments: arguments)]
  end
  %w[key other].each { |key| exchanges["direct"].publish(key, routing_key: key) }
  %w[a.b a.b.c.d a b.a].each { |key| exchanges["topic"].publish(key, routing_key: key) }
  exchanges["fanout"].publish("to all")
  %w[report note].each { |type| exchanges["headers"].publish(type, headers: { "type" => type }) }
  { "direct" => %w[key], "topic" => %w[a.b a.b.c.d], "fanout" => ["to all"], "headers" => %w[report] }.each do |kind, expected|
    wait_for_ready(channel, queues[kind].name, expected.size)
    equal(bodies(drain(channel, queues[kind].name)), expected, kind)
  end
  exchanges["fanout"].bind(exchanges["direct"], routing_key: "both")
  exchanges["direct"].publish("through two", routing_key: "both")
  wait_for_ready(channel, queues["fanout"].name, 1)
  exchanges["fanout"].unbind(exchanges["direct"], routing_key: "both")
  queues["direct"].unbind(exchanges["direct"], routing_key: "key")
  %w[both key].each { |key| exchanges["direct"].publish("lost", routing_key: key) }
  equal([channel.queue_purge(queues["fanout"].name).message_count, queues["direct"].message_count], [1, 0])

  temporary = channel.temporary_queue
  equal(temporary.name.start_with?("amq.gen-"), true, temporary.name)
  arguments = { "x-max-length" => 3, "x-message-ttl" => 60_000, "x-expires" => 60_000 }
  limited = channel.queue(unique_queue("limited"), durable: true, arguments: arguments)
  4.times { |number| limited.publish(number.to_s) }
  wait_for_ready(channel, limited.name, 3)
  declared(channel, unique_queue("quorum"), { "x-queue-type" => "quorum" })
  refused(connection, 404, "NOT_FOUND - no queue") { |other| other.queue_declare(unique_queue("missing"), passive: true) }
  refused(connection, 406, "inequivalent arg 'x-max-length'") { |other| declared(other, limited.name, arguments.merge("x-max-length" => 4)) }
  refused(connection, 406, "inequivalent arg 'type'") { |other| other.fanout(exchanges["direct"].name, durable: true) }
  refused(connection, 406, "not empty") { |other| other.queue_delete(limited.name, if_empty: true) }
  limited.purge
  equal(limited.delete(if_unused: true, if_empty: true).message_count, 0)
end

def publishing(connection)
  channel = connection.create_channel
  confirmed = Queue.new
  channel.confirm_select(->(tag, multiple, nack) { confirmed << [tag, multiple, nack] })
  queue = declared(channel, unique_queue("confirms"))
  1000.times { |number| publish(channel, "", queue, number.to_s, persistent: true) }
  equal(channel.wait_for_confirms, true)
  equal(channel.queue_declare(queue, passive: true).message_count, 1000, "what is confirmed is in the queue")
  equal(bodies(drain(channel, queue)), Array.new(1000, &:to_s))

  exchange = channel.direct(unique_exchange("returns"))
  returned = Queue.new
  exchange.on_return { |info, properties, body| returned << [info.reply_code, info.reply_text, info.routing_key, properties.message_id, body] }
  exchange.publish("lost", routing_key: "unknown", mandatory: true, message_id: "r-1")
  equal(Timeout.timeout(PATIENCE_SECONDS) { returned.pop }, [312, "NO_ROUTE", "unknown", "r-1", "lost"])
  equal(channel.wait_for_confirms, true, "confirmed nevertheless")

  full = declared(channel, unique_queue("full"), { "x-max-length" => 1, "x-overflow" => "reject-publish" })
  publish(channel, "", full, "taken")
  publish(channel, "", full, "refused")
  equal(channel.wait_for_confirms, false)
  equal(channel.nacked_set.size, 1)

  other = connection.create_channel
  other.tx_select
  publish(other, "", queue, "rolled back")
  other.tx_rollback
  publish(other, "", queue, "committed")
  other.tx_commit
  equal(bodies(drain(other, queue)), ["committed"])
  other = connection.create_channel
  publish(other, unique_exchange("missing"), "", "x")
  wait_until("the channel is closed, for there is no such exchange") { other.closed? }
end

def contents(connection)
  channel = connection.create_channel
  queue = declared(channel, unique_queue("contents"))
  inbox = Inbox.new(channel, queue, manual_ack: false)
  [0, 1, 131_063, 131_064, 131_065, 1 << 20, ENV.fetch("COMPAT_LARGE_BYTES", 64 << 20).to_i].each do |size|
    body = Random.bytes(size)
    publish(channel, "", queue, body, persistent: true)
    equal(inbox.next.body == body, true, "#{size} octets come out as they went in")
  end
  headers = {
    "string" => "Häsin 兎", "empty" => "", "long" => "x" * 10_000, "true" => true, "false" => false, "int" => -(2**31),
    "long int" => -(2**63), "double" => 0.1, "time" => Time.at(1_700_000_000), "void" => nil,
    "list" => ["a", 1, true, nil, [2, [3]], { "deep" => "er" }], "table" => { "a" => { "b" => { "c" => 1 } } }, "empty table" => {}
  }
  properties = {
    content_type: "application/json", content_encoding: "identity", priority: 7, correlation_id: "correlation", reply_to: "answers",
    expiration: "600000", message_id: "message", timestamp: 1_700_000_000, type: "order.created",
    user_id: connection.user, app_id: "compat"
  }
  publish(channel, "", queue, "x", headers: headers, persistent: true, **properties)
  received = inbox.next.properties.to_h
  headers.each do |name, value|
    # bunny gives text as octets.
    actual = received[:headers][name]
    equal(value.is_a?(String) ? actual.b : actual, value.is_a?(String) ? value.b : value, name)
  end
  received[:timestamp] = received[:timestamp].to_i
  properties.each { |name, value| equal(received[name], value, name) }
  equal(received[:delivery_mode], 2)
end

def dead_letters(connection)
  channel = connection.create_channel
  exchange = channel.fanout(unique_exchange("dead"), durable: true)
  dead = channel.queue(unique_queue("dead"), durable: true).bind(exchange)
  letters = Inbox.new(channel, dead.name, manual_ack: false)
  to_dead = { "x-dead-letter-exchange" => exchange.name, "x-dead-letter-routing-key" => "died" }
  work = declared(channel, unique_queue("work"), to_dead)
  short = declared(channel, unique_queue("short"), to_dead.merge("x-message-ttl" => 100))
  small = declared(channel, unique_queue("small"), to_dead.merge("x-max-length" => 1))
  died = lambda do |body, queue, reason|
    letter = letters.next
    death = letter.properties.headers["x-death"].first
    equal([letter.body, letter.info.routing_key, death["queue"], death["reason"], death["count"]], [body, "died", queue, reason, 1])
  end
  publish(channel, "", short, "by the queue")
  died.call("by the queue", short, "expired")
  publish(channel, "", work, "by itself", expiration: "100")
  died.call("by itself", work, "expired")
  publish(channel, "", small, "pushed out")
  publish(channel, "", small, "stays")
  died.call("pushed out", small, "maxlen")
  publish(channel, "", work, "rejected")
  channel.reject(Inbox.new(channel, work).next.info.delivery_tag)
  died.call("rejected", work, "rejected")

  ordered = declared(channel, unique_queue("ordered"), { "x-max-priority" => 5 })
  [0, 5, 2, 5, 1].each_with_index { |priority, number| publish(channel, "", ordered, number.to_s, priority: priority) }
  wait_for_ready(channel, ordered, 5)
  equal(bodies(drain(channel, ordered)), %w[1 3 2 4 0])
end

run do
  %i[topology publishing contents dead_letters].each do |flow|
    connection = connect
    send(flow, connection)
    connection.close
  end
end
