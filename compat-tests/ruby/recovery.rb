# frozen_string_literal: true

# A broker that is short of memory, and one that restarts: bunny reconnects by itself, with topology and consumers.

require_relative "support"

def blocked
  connection = connect
  told = Queue.new
  connection.on_blocked { |notice| told << notice.reason }
  connection.on_unblocked { told << "unblocked" }
  channel = connection.create_channel
  queue = declared(channel, unique_queue("blocked"))
  from_runner("BROKER_CTL", "set_vm_memory_high_watermark", "absolute", "1000000")
  begin
    publish(channel, "", queue, "held back")
    equal(Timeout.timeout(PATIENCE_SECONDS) { told.pop }, "low on memory")
    equal(connection.blocked?, true)
    watching = connect
    equal(drain(watching.create_channel, queue).size, 0, "nothing is taken meanwhile, and who only consumes is served")
    watching.close
  ensure
    from_runner("BROKER_CTL", "set_vm_memory_high_watermark", "0.6")
  end
  equal(Timeout.timeout(PATIENCE_SECONDS) { told.pop }, "unblocked")
  wait_for_ready(channel, queue, 1)
  connection.close
end

def restarted
  recovered = Queue.new
  connection = connect(network_recovery_interval: 0.5, recovery_completed: -> { recovered << true })
  channel = connection.create_channel
  exchange = channel.topic(unique_exchange("recovery"), durable: true)
  kept = channel.queue(unique_queue("recovery"), durable: true).bind(exchange, routing_key: "kept.#")
  lost = channel.queue("", exclusive: true).bind(exchange, routing_key: "lost.#")
  channel.confirm_select
  channel.prefetch(10)
  messages, others = Queue.new, Queue.new
  kept.subscribe(manual_ack: true) { |info, _, body| messages << [info, body] }
  lost.subscribe { |_, _, body| others << body }
  exchange.publish("before", routing_key: "kept.1", persistent: true)
  equal(channel.wait_for_confirms, true)
  take = ->(from) { Timeout.timeout(PATIENCE_SECONDS) { from.pop } }
  equal(take.call(messages)[1], "before")
  from_runner("BROKER_RESTART")
  Timeout.timeout(PATIENCE_SECONDS) { recovered.pop }
  info, body = take.call(messages)
  equal([body, info.redelivered?], ["before", true], "what was confirmed outlives the restart")
  channel.ack(info.delivery_tag)
  exchange.publish("after", routing_key: "kept.2")
  equal(take.call(messages)[1], "after")
  exchange.publish("after", routing_key: "lost.1")
  equal(take.call(others), "after", "the queue that the broker named, its binding and its consumer are made again")
  connection.close
end

run do
  if ENV["BROKER_CTL"].nil? || ENV["BROKER_RESTART"].nil?
    puts "this broker cannot be restarted or short of memory from here"
  else
    blocked
    restarted
  end
end
