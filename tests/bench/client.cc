// SPDX-License-Identifier: MIT
#include "tests/bench/client.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <random>
#include <sys/mman.h>
#include <utility>

#include "shm/loop/loop.h"

namespace smbdirect::tests::bench {

namespace {

constexpr uint64_t kPatienceMs = 20'000;  // no step and no job takes longer unless something hangs
constexpr uint32_t kCreditUnit = 65536;
constexpr uint32_t kCreditsWanted = 512;

std::string hex(uint64_t value) {
  std::array<char, 24> text{};
  (void)std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(value));
  return text.data();
}

}  // namespace

double now_seconds() {
  timespec now{};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

Block::Block(size_t size) {
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (at == MAP_FAILED) throw Failure("no memory for " + std::to_string(size) + " bytes");
  bytes_ = {static_cast<std::byte*>(at), size};
}

Block::~Block() {
  if (!bytes_.empty()) (void)::munmap(bytes_.data(), bytes_.size());
}

Client::Client(uv_loop_t& loop, const MakeLink& make_link, uint32_t channel)
    : loop_(loop), channel_(channel), link_(make_link(loop, *this)) {
  std::random_device random;
  for (std::byte& b : guid_) b = static_cast<std::byte>(random());
}

Client::~Client() = default;

void Client::fail(const std::string& why) {
  if (failure_.empty()) failure_ = why;
}

void Client::on_closed(const std::string& why, bool clean) {
  closed_ = true;
  if (!clean) fail("connection ended: " + why);
}

void Client::wait_for(const bool& condition, const char* what) {
  shm::Timer deadline(loop_, [this, what] { fail(std::string("timed out: ") + what); });
  deadline.start(kPatienceMs);
  while (!condition && failure_.empty()) {
    if (closed_) fail(std::string("the peer closed the connection during: ") + what);
    if (failure_.empty()) (void)uv_run(&loop_, UV_RUN_ONCE);
  }
  if (!failure_.empty()) throw Failure(std::string(what) + ": " + failure_);
}

RequestHeader Client::next_header(Command command, uint32_t payload) {
  const auto charge = static_cast<uint16_t>(std::max(1U, (payload + kCreditUnit - 1) / kCreditUnit));
  RequestHeader header{.command = command,
                       .credit_charge = charge,
                       .credits = static_cast<uint16_t>(credits_ < kCreditsWanted ? kCreditsWanted : charge),
                       .message_id = message_id_,
                       .tree_id = tree_id_,
                       .session_id = session_id_};
  message_id_ += charge;
  if (credits_ < charge) {
    fail("the server granted too few SMB2 credits: " + std::to_string(credits_) + " left");
  } else {
    credits_ -= charge;
  }
  return header;
}

void Client::call(const Pdu& request, const char* what, uint32_t expected_status) {
  replied_ = false;
  link_->send(request.view(), {});
  link_->flush();
  wait_for(replied_, what);
  const uint64_t status = field(reply(), 8, 4);
  if (status != expected_status) throw Failure(std::string(what) + ": status " + hex(status));
}

void Client::connect() {
  link_->start();
  wait_for(ready_, "connect");
  Pdu pdu;
  put_header(pdu, next_header(Command::negotiate));
  put_negotiate(pdu, guid_);
  call(pdu, "NEGOTIATE");
  if (field(reply(), 68, 2) != 0x0302) throw Failure("NEGOTIATE: the server chose another dialect");
}

void Client::log_in(const std::string& share) {
  Pdu token;
  put_ntlm_negotiate(token);
  Pdu first;
  put_header(first, next_header(Command::session_setup));
  put_session_setup(first, token.view());
  call(first, "SESSION_SETUP", kStatusMoreProcessingRequired);
  session_id_ = field(reply(), 40, 8);

  Pdu proof;
  put_ntlm_authenticate(proof, "nosuchuser");
  Pdu second;
  put_header(second, next_header(Command::session_setup));
  put_session_setup(second, proof.view());
  call(second, "SESSION_SETUP (2)");

  Pdu tree;
  put_header(tree, next_header(Command::tree_connect));
  put_tree_connect(tree, "\\\\127.0.0.1\\" + share);
  call(tree, "TREE_CONNECT");
  tree_id_ = static_cast<uint32_t>(field(reply(), 36, 4));
}

void Client::open(const std::string& name, Disposition disposition) {
  Pdu pdu;
  put_header(pdu, next_header(Command::create));
  put_create(pdu, name, disposition);
  call(pdu, "CREATE");
  if (reply().size() < 64 + 80) throw Failure("CREATE: short response");
  std::copy_n(reply().begin() + 128, file_.size(), file_.begin());
}

void Client::close_file() {
  Pdu pdu;
  put_header(pdu, next_header(Command::close));
  put_close(pdu, file_);
  call(pdu, "CLOSE");
}

void Client::disconnect() {
  link_->close();
  wait_for(closed_, "disconnect");
}

std::span<std::byte> Client::on_head(std::span<const std::byte> head, size_t rest) {
  std::copy(head.begin(), head.end(), head_.begin());
  head_size_ = head.size();
  answered_ = nullptr;
  const uint64_t message_id = field(head, 24, 8);
  for (Slot& slot : slots_) {
    if (slot.busy && slot.message_id == message_id) answered_ = &slot;
  }
  const bool data = answered_ != nullptr && (!job_.write || reading_back_) && field(head, 8, 4) == 0;
  if (data && rest > 0) {
    if (rest <= answered_->memory.size()) return answered_->memory.first(rest);
    fail("a READ response is longer than asked for");
  }
  if (rest <= reply_.size() - kHeadBytes) {
    reply_size_ = head.size() + rest;
    return std::span(reply_).subspan(kHeadBytes, rest);
  }
  fail("a response of " + std::to_string(rest) + " bytes");
  return {};
}

void Client::on_pdu() {
  const std::span<const std::byte> head(head_.data(), head_size_);
  credits_ += static_cast<uint32_t>(field(head, 14, 2));
  if (field(head, 8, 4) == kStatusPending) return;  // the answer follows
  if (answered_ != nullptr) return finish(*std::exchange(answered_, nullptr));
  std::copy(head.begin(), head.end(), reply_.begin());
  replied_ = true;
}

void Client::issue(Slot& slot) {
  const uint64_t pieces = job_.file_bytes / job_.size;
  slot.offset = issued_ % pieces * job_.size;
  ++issued_;
  const bool write = job_.write && !reading_back_;
  if (write) {
    slot.generation = job_.generation != 0 ? job_.generation : ++generation_;
    Pattern::stamp(slot.memory.first(job_.size), slot.offset, slot.generation);
    written_[slot.offset / job_.size] = slot.generation;
  } else {
    slot.generation = reading_back_ ? written_[slot.offset / job_.size] : job_.generation;
  }

  ChannelInfo info;
  if (channel_ != 0) {
    const auto exposed =
        link_->expose(slot.memory.first(job_.size), write ? Access::remote_read : Access::remote_write);
    if (!exposed) return fail("no memory can be exposed");
    info = {.channel = channel_, .offset = exposed->offset, .token = exposed->token};
    slot.token = exposed->token;
    slot.exposed = true;
  }
  Pdu pdu;
  const RequestHeader header = next_header(write ? Command::write : Command::read, job_.size);
  put_header(pdu, header);
  std::span<const std::byte> payload;
  if (write) {
    put_write(pdu, file_, slot.offset, job_.size, info);
    if (channel_ == 0) payload = slot.memory.first(job_.size);
  } else {
    put_read(pdu, file_, slot.offset, job_.size, info);
  }
  slot.message_id = header.message_id;
  slot.busy = true;
  ++busy_;
  link_->send(pdu.view(), payload);
}

void Client::finish(Slot& slot) {
  slot.busy = false;
  --busy_;
  const std::span<const std::byte> head(head_.data(), head_size_);
  const bool write = job_.write && !reading_back_;
  if (slot.exposed) {
    link_->unexpose(slot.token);
    slot.exposed = false;
  }
  const uint64_t status = field(head, 8, 4);
  if (status != 0) return fail(std::string(write ? "WRITE" : "READ") + ": status " + hex(status));
  // READ: DataLength, or DataRemaining when the data came by RDMA (MS-SMB2 2.2.20). WRITE: Count.
  const uint64_t count = write || channel_ == 0 ? field(head, 68, 4) : field(head, 72, 4);
  if (count != job_.size) return fail("a short " + std::string(write ? "WRITE" : "READ"));
  if (!write) {
    const std::span<const std::byte> data = slot.memory.first(job_.size);
    const bool all = job_.check_all || done_.operations < job_.depth;
    if (!(all ? pattern_.matches(data, slot.offset, slot.generation)
              : Pattern::stamps_match(data, slot.offset, slot.generation))) {
      return fail("the data read at offset " + std::to_string(slot.offset) + " are not those written");
    }
    done_.checked_pages += job_.size / kPageBytes;
    done_.checked_bytes += all ? job_.size : job_.size / kPageBytes * sizeof(uint64_t);
  }
  ++done_.operations;
  done_.bytes += job_.size;
  if (!stopped_) {
    stopped_ = job_.operations != 0 ? issued_ >= job_.operations : now_seconds() >= stop_at_;
  }
  if (!stopped_) issue(slot);
  drained_ = busy_ == 0;
}

void Client::fill_depth(uint32_t depth) {
  drained_ = false;
  stopped_ = false;
  issued_ = 0;
  for (uint32_t i = 0; i < depth && !stopped_; ++i) {
    issue(slots_[i]);
    stopped_ = job_.operations != 0 && issued_ >= job_.operations;
  }
  link_->flush();
}

Client::Done Client::run(const Job& job) {
  job_ = job;
  done_ = {};
  while (blocks_.size() < job.depth || (!blocks_.empty() && blocks_.front().bytes().size() < job.size)) {
    if (!blocks_.empty() && blocks_.front().bytes().size() < job.size) {
      slots_.clear();
      blocks_.clear();
    }
    blocks_.emplace_back(job.size);
    pattern_.fill(blocks_.back().bytes(), 0, 0);
    slots_.push_back(Slot{.memory = blocks_.back().bytes()});
  }
  if (job.write && (written_size_ != job.size || written_.size() != job.file_bytes / job.size)) {
    written_size_ = job.size;
    written_.assign(job.file_bytes / job.size, 0);
  }
  const double start = now_seconds();
  stop_at_ = start + job.seconds;
  fill_depth(job.depth);
  wait_for(drained_, job.write ? "WRITE" : "READ");
  done_.seconds = now_seconds() - start;
  return done_;
}

uint64_t Client::verify_written(uint32_t size, uint32_t depth) {
  uint64_t pieces = 0;
  while (pieces < written_.size() && written_[pieces] != 0) ++pieces;
  if (pieces == 0) return 0;
  // Fills the slots' memory with what was read; run() for further writes fills only stamps, so the rest
  // must be the pattern, which it is when the comparison holds.
  job_ = Job{.write = true,
             .size = size,
             .depth = depth,
             .file_bytes = pieces * size,
             .operations = pieces,
             .check_all = true};
  done_ = {};
  reading_back_ = true;
  fill_depth(depth);
  wait_for(drained_, "READ back");
  reading_back_ = false;
  return done_.checked_bytes;
}

}  // namespace smbdirect::tests::bench
