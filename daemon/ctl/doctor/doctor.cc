// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/doctor.h"

#include "daemon/ctl/doctor/announcement.h"
#include "daemon/ctl/doctor/examination.h"

namespace smbdirect::daemon::doctor {

Diagnosis diagnose(Host& host, const DoctorOptions& options, bool json) {
  const Patient patient = Patient::meet(host, options);
  if (options.smb_conf) {
    if (!patient.pool) return {false, "# " + check_pool_file(patient).front().what + "\n"};
    return {true, smb_conf_lines(patient)};
  }
  const Examination examination = examine(patient);
  return {count(examination, State::failed) == 0,
          json ? examination_json(examination) : examination_text(examination, options.all)};
}

}  // namespace smbdirect::daemon::doctor
