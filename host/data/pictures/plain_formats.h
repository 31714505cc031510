// BMP and PNM: rows of plain numbers. Leptonica reads only some of their kinds.
#pragma once

#include "host/data/pictures/picture_bytes.h"

namespace mnist {

// All kinds that are not compressed. 32 bits a pixel. Throws Error(kBadInput).
PixPtr read_bmp(Bytes file);

// P1 to P6, of any highest value up to 65535. 32 bits a pixel. Throws Error(kBadInput).
PixPtr read_pnm(Bytes file);

}  // namespace mnist
