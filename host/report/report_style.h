// The style of the report's page. Its colours are svg.h's.
#pragma once

namespace mnist {

inline constexpr const char* kReportStyle = R"(
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:58rem;color:var(--text);
  background:var(--paper);line-height:1.5;
  font-family:system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
h1,h2,h3{line-height:1.25;text-wrap:balance}
h1{font-size:1.75rem;margin:0 0 .5rem}
h2{font-size:1.25rem;margin:3rem 0 1rem;padding-top:1rem;border-top:1px solid var(--grid)}
h3{font-size:1rem;margin:2rem 0 .5rem}
h1,dd,li,.lead,.code{overflow-wrap:anywhere}
h1,dd,th,td{unicode-bidi:isolate}
p{margin:.5rem 0}
a{color:var(--first)}
.kicker,.muted,footer,figcaption span,dt{color:var(--muted)}
.kicker{margin:0;font-size:.875rem}
.lead{font-size:1.125rem}
.status{border-left:4px solid var(--second);padding:.5rem .75rem;margin:1rem 0;
  overflow-wrap:anywhere}
.keys{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.75rem;
  margin:1.5rem 0 0}
.keys div{border:1px solid var(--grid);border-radius:.5rem;padding:.6rem .75rem}
.keys dt{font-size:.8125rem}
.keys dd{margin:0;font-size:1.375rem;font-weight:600;font-variant-numeric:tabular-nums}
.keys small{display:block;font-size:.8125rem;font-weight:400;color:var(--muted)}
.facts{display:grid;grid-template-columns:minmax(7rem,auto) 1fr;gap:.35rem 1.25rem;margin:0}
.facts dd{margin:0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));
  gap:2rem 2.5rem;align-items:start}
svg{display:block;max-width:100%;height:auto}
.pair svg{width:100%;max-width:31rem}
.mistakes{display:grid;grid-template-columns:repeat(auto-fill,minmax(5.75rem,1fr));gap:1rem;
  list-style:none;margin:1rem 0 0;padding:0}
.mistakes figure{margin:0}
.mistakes svg{border:1px solid var(--grid);width:5.25rem;height:5.25rem}
figcaption{font-size:.875rem;line-height:1.35;margin-top:.25rem}
figcaption span{display:block;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9375rem}
caption{text-align:left;font-weight:700;padding-bottom:.5rem}
th,td{padding:.3rem .9rem .3rem 0;text-align:right;border-bottom:1px solid var(--grid);
  vertical-align:baseline}
td{white-space:nowrap}
th:first-child{text-align:left}
thead th{font-size:.8125rem;color:var(--muted);font-weight:600}
details{margin:1rem 0}
summary{cursor:pointer}
summary:focus-visible,a:focus-visible,.scroll:focus-visible{outline:2px solid var(--first);
  outline-offset:2px}
footer{margin-top:3rem;border-top:1px solid var(--grid);padding-top:1rem;font-size:.875rem}
@media (max-width:26rem){.facts{grid-template-columns:1fr;gap:0}.facts dd{margin-bottom:.6rem}
  th,td{padding-right:.5rem}.curves text,section>svg text{font-size:14px}}
@media (max-width:22rem){table{font-size:.8125rem}th,td{padding-right:.4rem}}
@media print{@page{margin:15mm}body{max-width:none;padding:0;font-size:10pt;line-height:1.35}
  h1{margin:0}.keys{grid-template-columns:repeat(6,1fr);gap:.4rem;margin-top:.75rem}
  .keys dd{font-size:1.05rem}.keys dt{font-size:.7rem}
  h2{margin:1.25rem 0 .5rem;padding-top:.5rem}footer{margin-top:1.25rem;padding-top:.5rem}
  .pair{grid-template-columns:1fr 1fr;gap:1rem}.mistakes{grid-template-columns:repeat(6,1fr);gap:.6rem}
  .mistakes svg{width:4.5rem;height:4.5rem}
  th,td{padding-top:.1rem;padding-bottom:.1rem}.muted{font-size:.8125rem}
  h2,h3,h2+p,caption,thead{break-after:avoid}
  svg,table,tr,p,.keys,.mistakes li{break-inside:avoid}
  details:not([open]),.live{display:none}.scroll{overflow:visible}}
)";

}  // namespace mnist
