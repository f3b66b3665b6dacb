# frozen_string_literal: true

# Consumers: prefetch, acks in all forms, cancelling from both sides, what is refused, and RPC with direct reply-to.

require_relative "support"

def filled(connection, name, count)
  channel = connection.create_channel
  queue = declared(channel, unique_queue(name))
  1.upto(count) { |number| publish(channel, "", queue, number.to_s) }
  wait_for_ready(channel, queue, count)
  [channel, queue]
end

def prefetching(connection)
  channel, queue = filled(connection, "prefetch", 10)
  channel.prefetch(2)
  first = Inbox.new(channel, queue)
  channel.prefetch(3)
  second = Inbox.new(channel, queue) # The first one keeps its limit.
  early, others = first.take(2), second.take(3)
  wait_for_ready(channel, queue, 5)
  equal([bodies(early), bodies(others)], [%w[1 2], %w[3 4 5]])
  channel.ack(early[1].info.delivery_tag)
  equal(first.next.body, "6")
  channel.ack(others[2].info.delivery_tag, true) # All up to this one, of both consumers.
  first.next
  second.take(3)
  wait_for_ready(channel, queue, 0)
end

def settling(connection)
  channel, queue = filled(connection, "settling", 6)
  other = connection.create_channel
  inbox = Inbox.new(other, queue)
  tags = inbox.take(6).map { |message| message.info.delivery_tag }
  other.ack(tags[1])
  other.reject(tags[0], false)
  other.reject(tags[3], true)
  again = inbox.next
  equal([again.body, again.info.redelivered?, again.info.delivery_tag.to_i], ["4", true, 7])
  other.nack(tags[4], true, true) # 3 and 5
  equal(bodies(inbox.take(2)), %w[3 5])
  other.basic_recover(true)
  equal(bodies(inbox.take(4)), %w[3 4 5 6])
  other.close
  wait_for_ready(channel, queue, 4) # What a channel leaves behind goes to its old place.
  equal(bodies(drain(channel, queue)), %w[3 4 5 6])
end

def cancelling(connection)
  channel, queue = filled(connection, "cancel", 1)
  inbox = Inbox.new(channel, queue, consumer_tag: "chosen")
  message = inbox.next
  equal(message.info.consumer_tag, "chosen")
  channel.ack(message.info.delivery_tag)
  inbox.consumer.cancel
  publish(channel, "", queue, "2")
  wait_for_ready(channel, queue, 1)
  equal(inbox.size, 0)

  # The queue goes: its consumer is told.
  told = Queue.new
  Inbox.new(channel, queue, on_cancellation: ->(*) { told << true })
  connection.create_channel.queue_delete(queue)
  Timeout.timeout(PATIENCE_SECONDS) { told.pop }

  # Consumers with priorities: the important one first.
  channel, queue = filled(connection, "consumer-priority", 0)
  low = Inbox.new(channel, queue, manual_ack: false, arguments: { "x-priority" => 1 })
  high = Inbox.new(channel, queue, manual_ack: false, arguments: { "x-priority" => 10 })
  5.times { |number| publish(channel, "", queue, number.to_s) }
  equal(bodies(high.take(5)), %w[0 1 2 3 4])
  equal(low.size, 0)
end

def refusals(connection)
  channel, queue = filled(connection, "refusals", 1)
  Inbox.new(channel, queue, exclusive: true)
  refused(connection, 403, "in exclusive use") { |other| Inbox.new(other, queue) }
  refused(connection, 406, "unknown delivery tag 17") { |other| other.basic_ack(17) }
  channel.queue_declare(queue, passive: true) # Only the others were closed.
end

def requests(connection)
  server = connection.create_channel
  jobs = server.queue(unique_queue("jobs"), durable: true)
  jobs.subscribe(manual_ack: true) do |info, properties, body|
    server.default_exchange.publish("re: #{body}", routing_key: properties.reply_to, correlation_id: properties.correlation_id)
    server.ack(info.delivery_tag)
  end
  client = connection.create_channel
  answers = Queue.new
  client.basic_consume("amq.rabbitmq.reply-to", "", true) { |_, properties, body| answers << [properties.correlation_id, body] }
  50.times do |number|
    client.default_exchange.publish(number.to_s, routing_key: jobs.name, reply_to: "amq.rabbitmq.reply-to", correlation_id: "c#{number}")
    equal(Timeout.timeout(PATIENCE_SECONDS) { answers.pop }, ["c#{number}", "re: #{number}"])
  end
end

run do
  %i[prefetching settling cancelling refusals requests].each do |flow|
    connection = connect
    send(flow, connection)
    connection.close
  end
end
