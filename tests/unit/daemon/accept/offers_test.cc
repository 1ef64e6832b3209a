// SPDX-License-Identifier: MIT
#include "daemon/accept/offers.h"

#include <fcntl.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "shm/base/socket_address.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using smbdirect::daemon::IncomingSocket;
using smbdirect::daemon::kOfferDeadlineMs;
using smbdirect::daemon::Offer;
using smbdirect::daemon::Offers;
namespace shm = smbdirect::shm;

namespace {

const sockaddr_storage kPeer = *shm::address_from_text("192.0.2.1", 1000);
const sockaddr_storage kLocal = *shm::address_from_text("192.0.2.2", 5445);

Offer& add(Offers& offers) {
  return offers.add(std::make_unique<IncomingSocket>(shm::UniqueFd()), kPeer, kLocal);
}

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

}  // namespace

TEST_CASE("an offer belongs to one worker at a time, and a late answer finds nothing") {
  Offers offers(3);
  Offer& offer = add(offers);
  const shm::ConnectionId connection = offer.connection;
  Offers::assign(offer, 0, 100);
  CHECK(offers.find(connection, 0) == &offer);
  CHECK(offers.find(connection, 1) == nullptr);
  CHECK(offers.overdue(100 + kOfferDeadlineMs - 1).empty());
  CHECK(offers.overdue(100 + kOfferDeadlineMs) == std::vector{connection});
  Offers::give_up_on(offer);
  CHECK(offer.tried == std::vector{true, false, false});
  Offers::assign(offer, 1, 1100);
  CHECK(offers.find(connection, 0) == nullptr);
  CHECK(offers.find(connection, 1) == &offer);
  offers.drop(connection);
  CHECK(offers.find(connection, 1) == nullptr);
  CHECK(offers.size() == 0);
}

TEST_CASE("numbers are never used again") {
  Offers offers(1);
  const shm::ConnectionId first = add(offers).connection;
  offers.drop(first);
  CHECK(add(offers).connection > first);
  offers.clear();
  CHECK(std::to_underlying(add(offers).connection) > std::to_underlying(first) + 1);
}

TEST_CASE("a dead worker's offers are with nobody, and its successor may be asked") {
  Offers offers(2);
  Offer& one = add(offers);
  Offer& two = add(offers);
  Offer& three = add(offers);
  Offers::assign(one, 0, 0);
  Offers::assign(two, 1, 0);
  Offers::assign(three, 0, 0);
  Offers::give_up_on(three);  // slot 0 refused it
  Offers::assign(three, 1, 0);
  CHECK(offers.forget_slot(0) == std::vector{one.connection});
  CHECK_FALSE(one.slot);
  CHECK(one.tried == std::vector{false, false});
  CHECK(three.tried == std::vector{false, false});
  CHECK(two.slot == 1);
  CHECK(offers.forget_slot(0).empty());
}

TEST_CASE("those who wait for a worker are counted apart and have a deadline too") {
  Offers offers(2);
  Offer& one = add(offers);
  Offer& two = add(offers);
  Offers::assign(one, 0, 50);
  Offers::wait(two, 70);
  CHECK(offers.waiting() == 1);
  CHECK(offers.all_waiting() == std::vector{two.connection});
  CHECK(offers.next_deadline() == 50 + kOfferDeadlineMs);
  offers.drop(one.connection);
  CHECK(offers.next_deadline() == 70 + kOfferDeadlineMs);
  offers.clear();
  CHECK_FALSE(offers.next_deadline());
}

TEST_CASE("whoever is dropped is closed") {
  Offers offers(1);
  const int first = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int second = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const shm::ConnectionId connection =
      offers.add(std::make_unique<IncomingSocket>(shm::UniqueFd(first)), kPeer, kLocal).connection;
  offers.add(std::make_unique<IncomingSocket>(shm::UniqueFd(second)), kPeer, kLocal);
  CHECK(is_open(first));
  offers.drop(connection);
  CHECK_FALSE(is_open(first));
  CHECK(is_open(second));
  offers.clear();
  CHECK_FALSE(is_open(second));
}

TEST_CASE("full at the bound") {
  Offers offers(1);
  for (size_t i = 0; i < Offers::kMaxPending; ++i) {
    CHECK_FALSE(offers.full());
    add(offers);
  }
  CHECK(offers.full());
  offers.drop(1_c);
  CHECK_FALSE(offers.full());
}
