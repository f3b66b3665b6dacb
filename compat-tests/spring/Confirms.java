import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.ReturnedMessage;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory.ConfirmType;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;

/** Publisher confirms, correlated and simple, nacks, returns, and transactions. */
final class Confirms {
    public static void main(String[] args) {
        Support.run(() -> {
            correlated();
            simple();
            transacted();
        });
    }

    private static void correlated() throws Exception {
        CachingConnectionFactory connections = Support.connections();
        connections.setPublisherConfirmType(ConfirmType.CORRELATED);
        connections.setPublisherReturns(true);
        RabbitAdmin admin = new RabbitAdmin(connections);
        String queue = Support.uniqueQueue("confirms");
        admin.declareQueue(new Queue(queue, true));
        RabbitTemplate template = new RabbitTemplate(connections);
        template.setMandatory(true);
        List<CorrelationData> sent = new ArrayList<>();
        for (int number = 0; number < 500; number++) {
            CorrelationData data = new CorrelationData("message " + number);
            template.convertAndSend("", queue, "message " + number, data);
            sent.add(data);
        }
        for (CorrelationData data : sent) {
            Support.equal(data.getFuture().get(30, TimeUnit.SECONDS).isAck(), true, data.getId() + " is acked");
            Support.equal(data.getReturned(), null, data.getId() + " is not returned");
        }
        Support.equal(admin.getQueueInfo(queue).getMessageCount(), 500, "messages in the queue");

        CorrelationData lost = new CorrelationData("lost");
        template.convertAndSend("", queue + ".missing", "lost", lost);
        Support.equal(lost.getFuture().get(30, TimeUnit.SECONDS).isAck(), true, "what is returned is acked");
        ReturnedMessage returned = lost.getReturned();
        Support.equal(returned.getReplyCode(), 312, "its code");
        Support.equal(returned.getReplyText(), "NO_ROUTE", "its text");
        Support.equal(returned.getRoutingKey(), queue + ".missing", "its key");
        Support.equal(new String(returned.getMessage().getBody()), "lost", "its body");

        // An exchange that is not there closes the channel: what was not confirmed is nacked.
        CorrelationData nowhere = new CorrelationData("nowhere");
        template.convertAndSend("compat.spring.no-exchange", queue, "nowhere", nowhere);
        CorrelationData.Confirm refused = nowhere.getFuture().get(30, TimeUnit.SECONDS);
        Support.equal(refused.isAck(), false, "no such exchange");
        Support.equal(refused.getReason().contains("no exchange 'compat.spring.no-exchange' in vhost '/'"), true, refused.getReason());

        String full = Support.uniqueQueue("full");
        admin.declareQueue(new Queue(full, false, false, false, Map.of("x-max-length", 1, "x-overflow", "reject-publish")));
        CorrelationData first = new CorrelationData("first");
        template.convertAndSend("", full, "first", first);
        Support.equal(first.getFuture().get(30, TimeUnit.SECONDS).isAck(), true, "the first fits");
        CorrelationData second = new CorrelationData("second");
        template.convertAndSend("", full, "second", second);
        Support.equal(second.getFuture().get(30, TimeUnit.SECONDS).isAck(), false, "the second does not");
    }

    private static void simple() {
        CachingConnectionFactory connections = Support.connections();
        connections.setPublisherConfirmType(ConfirmType.SIMPLE);
        String queue = Support.uniqueQueue("simple");
        RabbitAdmin admin = new RabbitAdmin(connections);
        admin.declareQueue(new Queue(queue, false));
        RabbitTemplate template = new RabbitTemplate(connections);
        Boolean confirmed = template.invoke(operations -> {
            for (int number = 0; number < 100; number++) {
                operations.convertAndSend(queue, "x");
            }
            return operations.waitForConfirms(30_000);
        });
        Support.equal(confirmed, true, "all are confirmed");
        Support.equal(admin.getQueueInfo(queue).getMessageCount(), 100, "messages in the queue");
    }

    private static void transacted() {
        CachingConnectionFactory connections = Support.connections();
        String queue = Support.uniqueQueue("transacted");
        RabbitAdmin admin = new RabbitAdmin(connections);
        admin.declareQueue(new Queue(queue, false));
        RabbitTemplate template = new RabbitTemplate(connections);
        template.setChannelTransacted(true);
        template.convertAndSend(queue, "committed");
        Support.equal(template.receiveAndConvert(queue, 10_000), "committed", "a transaction of its own each");
        Support.equal(admin.getQueueInfo(queue).getMessageCount(), 0, "messages in the queue");
    }
}
