import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Return;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;

/** Confirms one by one, in batches and by listeners; nacks; returns; transactions; blocked connections. */
final class Publishing {
    public static void main(String[] args) {
        Support.run(() -> {
            try (Connection connection = Support.factory().newConnection()) {
                confirms(connection.createChannel());
                nacks(connection.createChannel());
                returns(connection.createChannel());
                transactions(connection);
                blocked(connection);
            }
        });
    }

    private static void confirms(Channel channel) throws Exception {
        String queue = channel.queueDeclare(Support.uniqueQueue("confirms"), true, false, false, null).getQueue();
        channel.confirmSelect();
        Support.equal(channel.getNextPublishSeqNo(), 1L, "the first number");
        channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, Support.octets("x"));
        Support.equal(channel.waitForConfirms(Support.PATIENCE_MS), true, "one");
        ConcurrentSkipListSet<Long> open = new ConcurrentSkipListSet<>();
        channel.addConfirmListener((tag, multiple) -> settle(open, tag, multiple), (tag, multiple) -> {
            throw new AssertionError("nacked: " + tag);
        });
        for (int number = 0; number < 2_000; number++) {
            open.add(channel.getNextPublishSeqNo());
            channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, Support.octets("x"));
        }
        channel.waitForConfirmsOrDie(Support.PATIENCE_MS);
        Support.waitUntil("every number is confirmed", open::isEmpty);
        Support.equal(channel.messageCount(queue), 2_001L, "messages");
    }

    private static void settle(ConcurrentSkipListSet<Long> open, long tag, boolean multiple) {
        if (multiple) {
            open.headSet(tag, true).clear();
        } else {
            open.remove(tag);
        }
    }

    private static void nacks(Channel channel) throws Exception {
        String queue = Support.declare(channel, "nacks", Map.of("x-max-length", 2, "x-overflow", "reject-publish"));
        channel.confirmSelect();
        AtomicInteger acked = new AtomicInteger();
        AtomicInteger nacked = new AtomicInteger();
        channel.addConfirmListener((tag, multiple) -> acked.incrementAndGet(), (tag, multiple) -> nacked.incrementAndGet());
        for (int number = 0; number < 4; number++) {
            Support.publish(channel, queue, "x");
            Support.equal(channel.waitForConfirms(Support.PATIENCE_MS), number < 2, "publish " + number);
        }
        Support.equal(acked + "/" + nacked, "2/2", "acks and nacks");
    }

    private static void returns(Channel channel) throws Exception {
        String queue = Support.declare(channel, "returns", Map.of());
        BlockingQueue<Return> returned = new LinkedBlockingQueue<>();
        channel.addReturnListener(returned::add);
        channel.confirmSelect();
        channel.basicPublish("", queue, true, null, Support.octets("kept"));
        channel.basicPublish("", queue + ".missing", true, Support.properties().messageId("m").build(), Support.octets("lost"));
        channel.basicPublish("", queue + ".missing", false, null, Support.octets("dropped"));
        Support.equal(channel.waitForConfirms(Support.PATIENCE_MS), true, "all are confirmed");
        Return lost = Support.next(returned, "the return");
        Support.equal(lost.getReplyCode() + " " + lost.getReplyText(), "312 NO_ROUTE", "why");
        Support.equal(lost.getRoutingKey(), queue + ".missing", "its key");
        Support.equal(lost.getProperties().getMessageId(), "m", "its properties");
        Support.equal(new String(lost.getBody()), "lost", "its body");
        Support.equal(returned.size(), 0, "further returns");
    }

    private static void transactions(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = Support.declare(channel, "transactions", Map.of());
        Channel watching = connection.createChannel();
        channel.txSelect();
        Support.publish(channel, queue, "rolled back");
        channel.txRollback();
        Support.publish(channel, queue, "committed");
        Support.equal(watching.messageCount(queue), 0L, "before the commit");
        channel.txCommit();
        Support.equal(watching.messageCount(queue), 1L, "after the commit");
        long tag = channel.basicGet(queue, false).getEnvelope().getDeliveryTag();
        channel.basicAck(tag, false);
        channel.txRollback();
        channel.basicAck(tag, false);
        channel.txCommit();
        Support.refused(connection, 406, "tx", other -> {
            other.txSelect();
            other.confirmSelect();
        });
    }

    /** A broker short of disk blocks those who publish, and says so; others go on. */
    private static void blocked(Connection connection) throws Exception {
        String queue = Support.declare(connection.createChannel(), "blocked", Map.of());
        try (Connection publisher = Support.factory().newConnection()) {
            BlockingQueue<String> events = new LinkedBlockingQueue<>();
            publisher.addBlockedListener(events::add, () -> events.add("unblocked"));
            Channel channel = publisher.createChannel();
            if (!Support.ctl("set_disk_free_limit", "1000000GB")) {
                return;
            }
            try {
                Support.publish(channel, queue, "meanwhile");
                String reason = Support.next(events, "connection.blocked");
                Support.equal(reason, "low on disk", "the reason");
                Support.equal(connection.createChannel().queueDeclarePassive(queue).getConsumerCount(), 0, "others go on");
            } finally {
                Support.ctl("set_disk_free_limit", "50MB");
            }
            Support.equal(Support.next(events, "connection.unblocked"), "unblocked", "the end of it");
            Support.waitForReady(connection.createChannel(), queue, 1);
        }
    }
}
