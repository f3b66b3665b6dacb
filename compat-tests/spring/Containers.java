import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.Binding;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.core.TopicExchange;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.AbstractMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.api.ChannelAwareMessageListener;

/** Listener containers of both kinds: automatic and manual acks, none, batches, concurrency, priorities, queues that come and go. */
final class Containers {
    private static final int MESSAGES = 200;

    public static void main(String[] args) {
        Support.run(() -> {
            CachingConnectionFactory connections = Support.connections();
            for (boolean direct : new boolean[] {false, true}) {
                for (AcknowledgeMode mode : AcknowledgeMode.values()) {
                    listens(connections, direct, mode);
                }
                addsQueues(connections, direct);
            }
            batches(connections);
            quorum(connections);
        });
    }

    private static AbstractMessageListenerContainer container(CachingConnectionFactory connections, boolean direct) {
        if (direct) {
            DirectMessageListenerContainer container = new DirectMessageListenerContainer(connections);
            container.setConsumersPerQueue(3);
            return container;
        }
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
        container.setConcurrentConsumers(2);
        container.setMaxConcurrentConsumers(4);
        return container;
    }

    private static void listens(CachingConnectionFactory connections, boolean direct, AcknowledgeMode mode) throws Exception {
        String what = (direct ? "direct " : "simple ") + mode;
        RabbitAdmin admin = new RabbitAdmin(connections);
        Queue queue = QueueBuilder.nonDurable(Support.uniqueQueue(what.replace(' ', '-'))).build();
        TopicExchange exchange = new TopicExchange(Support.uniqueExchange(what.replace(' ', '-')), false, false);
        Binding binding = BindingBuilder.bind(queue).to(exchange).with("key.*");
        admin.declareExchange(exchange);
        admin.declareQueue(queue);
        admin.declareBinding(binding);
        BlockingQueue<String> came = new LinkedBlockingQueue<>();
        AbstractMessageListenerContainer container = container(connections, direct);
        container.setQueues(queue);
        container.setAcknowledgeMode(mode);
        container.setPrefetchCount(20);
        container.setConsumerArguments(Map.of("x-priority", 5));
        container.setMessageListener((ChannelAwareMessageListener) (message, channel) -> {
            came.add(new String(message.getBody()));
            if (mode == AcknowledgeMode.MANUAL) {
                channel.basicAck(message.getMessageProperties().getDeliveryTag(), false);
            }
        });
        container.start();
        Support.closeLater(container::stop);
        RabbitTemplate template = new RabbitTemplate(connections);
        List<String> sent = new ArrayList<>();
        for (int number = 0; number < MESSAGES; number++) {
            sent.add("message " + number);
            template.convertAndSend(exchange.getName(), "key." + number, "message " + number);
        }
        List<String> got = new ArrayList<>();
        while (got.size() < MESSAGES) {
            got.add(Support.next(came, what));
        }
        Collections.sort(sent);
        Collections.sort(got);
        Support.equal(got, sent, what);
        container.stop();
        Support.waitUntil("consumers of " + what + " go", () -> admin.getQueueInfo(queue.getName()).getConsumerCount() == 0);
        Support.equal(admin.getQueueInfo(queue.getName()).getMessageCount(), 0, "left over by " + what);
        admin.removeBinding(binding);
    }

    /** A queue is added to a running container, and one is deleted under it. */
    private static void addsQueues(CachingConnectionFactory connections, boolean direct) throws Exception {
        RabbitAdmin admin = new RabbitAdmin(connections);
        String[] names = new String[2];
        for (int number = 0; number < 2; number++) {
            names[number] = Support.uniqueQueue("several-" + direct + number);
            admin.declareQueue(new Queue(names[number], false));
        }
        BlockingQueue<String> came = new LinkedBlockingQueue<>();
        AbstractMessageListenerContainer container = container(connections, direct);
        container.setQueueNames(names[0]);
        container.setMissingQueuesFatal(false);
        container.setMessageListener(message -> came.add(new String(message.getBody())));
        container.start();
        Support.closeLater(container::stop);
        RabbitTemplate template = new RabbitTemplate(connections);
        container.addQueueNames(names[1]);
        template.convertAndSend(names[0], "a");
        Support.equal(Support.next(came, "the first queue"), "a", "the first queue");
        template.convertAndSend(names[1], "b");
        Support.equal(Support.next(came, "the second queue"), "b", "the second queue");
        container.removeQueueNames(names[0]);
        Support.waitUntil("the first queue's consumers go", () -> admin.getQueueInfo(names[0]).getConsumerCount() == 0);
        template.convertAndSend(names[1], "c");
        Support.equal(Support.next(came, "the second queue again"), "c", "the second queue again");
        container.stop();
    }

    /** The consumer collects a batch and acks it at once. */
    private static void batches(CachingConnectionFactory connections) throws Exception {
        String name = Support.uniqueQueue("batches");
        new RabbitAdmin(connections).declareQueue(new Queue(name, false));
        BlockingQueue<Integer> sizes = new LinkedBlockingQueue<>();
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
        container.setQueueNames(name);
        container.setBatchSize(10);
        container.setConsumerBatchEnabled(true);
        container.setMessageListener((org.springframework.amqp.core.BatchMessageListener) batch -> sizes.add(batch.size()));
        RabbitTemplate template = new RabbitTemplate(connections);
        for (int number = 0; number < 100; number++) {
            template.convertAndSend(name, "x");
        }
        container.start();
        Support.closeLater(container::stop);
        int total = 0;
        while (total < 100) {
            total += Support.next(sizes, "batches");
        }
        Support.equal(total, 100, "messages in batches");
        container.stop();
    }

    /** A quorum queue gives a message up after some deliveries. */
    private static void quorum(CachingConnectionFactory connections) throws Exception {
        RabbitAdmin admin = new RabbitAdmin(connections);
        String dead = Support.uniqueQueue("quorum-dead");
        String name = Support.uniqueQueue("quorum");
        admin.declareQueue(new Queue(dead, false));
        admin.declareQueue(QueueBuilder.durable(name).quorum().deliveryLimit(2).deadLetterExchange("").deadLetterRoutingKey(dead).build());
        Map<String, Integer> tries = Collections.synchronizedMap(new HashMap<>());
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
        container.setQueueNames(name);
        container.setMessageListener(message -> {
            tries.merge(new String(message.getBody()), 1, Integer::sum);
            throw new IllegalStateException("as it should be");
        });
        container.setErrorHandler(cause -> {});
        container.start();
        Support.closeLater(container::stop);
        RabbitTemplate template = new RabbitTemplate(connections);
        template.convertAndSend(name, "poison");
        Object letter = new RabbitTemplate(connections).receiveAndConvert(dead, Support.PATIENCE.toMillis());
        Support.equal(letter, "poison", "the dead letter");
        Support.equal(tries.get("poison"), 3, "deliveries of the poison");
        container.stop();
    }
}
