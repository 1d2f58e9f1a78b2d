// Answers questions about record batches with the classes of Apache Kafka 3.9.2: one line in, one line out, bytes in hex.
//   dump HEX                     MAGIC,CODEC,BATCH_BASE,BATCH_LAST,PRODUCER,EPOCH,SEQUENCE,FLAGS,MAX_TIMESTAMP[offset,timestamp,key,value,h=v;...|...]...
//   down MAGIC FIRST_OFFSET HEX  HEX
//   validate VERSION MAX_BYTES SEGMENT_BYTES CODEC LOG_APPEND_TIME NOW BEFORE AFTER COMPACT HEX
//                                OK HEX, or the name of the error and the indexes of the records to blame
// What cannot be answered gives ERROR and the exception.
import java.io.*;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.utils.*;
import org.apache.kafka.server.common.MetadataVersion;
import org.apache.kafka.storage.internals.log.*;

public class RecordReference {
    static final HexFormat HEX = HexFormat.of();

    public static void main(String[] args) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false);
        for (String line; (line = in.readLine()) != null; ) {
            String answer;
            try {
                answer = answer(line.split(" ", -1));
            } catch (Throwable e) {
                answer = "ERROR " + e;
            }
            out.println(answer.replace('\n', ' '));
            out.flush();
        }
    }

    static String answer(String[] words) {
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(HEX.parseHex(words[words.length - 1])));
        switch (words[0]) {
            case "dump": return dump(records);
            case "down":
                return hex(records.downConvert(Byte.parseByte(words[1]), Long.parseLong(words[2]), Time.SYSTEM).records());
            case "validate": return validate(words, records);
            default: throw new IllegalArgumentException(words[0]);
        }
    }

    static String hex(MemoryRecords records) {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return HEX.formatHex(bytes);
    }

    static String hex(ByteBuffer buffer) {
        return buffer == null ? "null" : HEX.formatHex(Utils.toArray(buffer));
    }

    static String dump(MemoryRecords records) {
        StringBuilder out = new StringBuilder();
        for (RecordBatch batch : records.batches()) {
            batch.ensureValid();
            out.append(batch.magic()).append(',').append(batch.compressionType().id).append(',').append(batch.baseOffset())
                .append(',').append(batch.lastOffset()).append(',').append(batch.producerId()).append(',')
                .append(batch.producerEpoch()).append(',').append(batch.baseSequence()).append(',')
                .append(batch.timestampType() == TimestampType.LOG_APPEND_TIME ? "A" : "")
                .append(batch.isTransactional() ? "T" : "").append(batch.isControlBatch() ? "C" : "").append(',')
                .append(batch.maxTimestamp()).append('[');
            for (org.apache.kafka.common.record.Record record : batch) {
                record.ensureValid();
                out.append(record.offset()).append(',').append(record.timestamp()).append(',').append(hex(record.key()))
                    .append(',').append(hex(record.value())).append(',');
                for (Header header : record.headers())
                    out.append(HEX.formatHex(header.key().getBytes(java.nio.charset.StandardCharsets.UTF_8))).append('=')
                        .append(header.value() == null ? "null" : HEX.formatHex(header.value())).append(';');
                out.append('|');
            }
            out.append(']');
        }
        return out.toString();
    }

    // A partition's way through ProduceRequest, the analysis before an append, and LogValidator.
    static String validate(String[] w, MemoryRecords records) {
        try {
            return "OK " + hex(append(w, records));
        } catch (RecordValidationException e) {
            StringBuilder out = new StringBuilder(Errors.forException(e.invalidException()).name());
            e.recordErrors().forEach(error -> out.append(' ').append(error.batchIndex));
            return out.toString();
        } catch (KafkaStorageException e) {
            throw e;
        } catch (Exception e) {
            return Errors.forException(e).name();
        }
    }

    static MemoryRecords append(String[] w, MemoryRecords records) {
        short version = Short.parseShort(w[1]);
        int maxBytes = Integer.parseInt(w[2]), segmentBytes = Integer.parseInt(w[3]);
        TimestampType type = Boolean.parseBoolean(w[5]) ? TimestampType.LOG_APPEND_TIME : TimestampType.CREATE_TIME;
        Time time = new FixedTime(Long.parseLong(w[6]));
        ProduceRequest.validateRecords(version, records);
        CompressionType source = CompressionType.NONE;
        int valid = 0;
        for (MutableRecordBatch batch : records.batches()) {
            if (batch.magic() >= 2 && batch.baseOffset() != 0) throw new InvalidRecordException("base offset");
            if (batch.sizeInBytes() > maxBytes) throw new RecordTooLargeException("batch");
            if (!batch.isValid()) throw new CorruptRecordException("crc");
            if (batch.compressionType() != CompressionType.NONE) source = batch.compressionType();
            valid += batch.sizeInBytes();
        }
        if (valid == 0) return MemoryRecords.EMPTY;
        ByteBuffer whole = records.buffer().duplicate();
        whole.limit(whole.position() + valid);
        Compression target = w[4].equals("producer") ? Compression.of(source).build() : Compression.of(w[4]).build();
        LogValidator validator = new LogValidator(MemoryRecords.readableRecords(whole), new TopicPartition("t", 0), time, source,
            target, Boolean.parseBoolean(w[9]), (byte) 2, type, Long.parseLong(w[7]), Long.parseLong(w[8]), 0,
            AppendOrigin.CLIENT, MetadataVersion.LATEST_PRODUCTION);
        LogValidator.ValidationResult result = validator.validateMessagesAndAssignOffsets(
            PrimitiveRef.ofLong(0), new NoMetrics(), BufferSupplier.NO_CACHING);
        MemoryRecords done = result.validatedRecords;
        for (MutableRecordBatch batch : done.batches())
            if (result.messageSizeMaybeChanged && batch.sizeInBytes() > maxBytes) throw new RecordTooLargeException("batch");
        if (done.sizeInBytes() > segmentBytes) throw new RecordBatchTooLargeException("set");
        return done;
    }

    static class NoMetrics implements LogValidator.MetricsRecorder {
        public void recordInvalidMagic() { }
        public void recordInvalidOffset() { }
        public void recordInvalidSequence() { }
        public void recordInvalidChecksums() { }
        public void recordNoKeyCompactedTopic() { }
    }

    static class FixedTime implements Time {
        final long now;
        FixedTime(long now) { this.now = now; }
        @Override public long milliseconds() { return now; }
        @Override public long nanoseconds() { return now * 1_000_000; }
        @Override public void sleep(long ms) { }
        @Override public void waitObject(Object obj, java.util.function.Supplier<Boolean> condition, long deadlineMs) { }
    }
}
