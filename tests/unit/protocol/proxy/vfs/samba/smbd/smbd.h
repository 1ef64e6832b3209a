// SPDX-License-Identifier: MIT
// In the place of Samba's header of this name, for a test of the module without smbd. C.
#pragma once
